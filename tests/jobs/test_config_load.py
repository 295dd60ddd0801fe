"""From a file to a configuration, or to every mistake in it with its line."""

import contextlib
import os
from pathlib import Path
from textwrap import dedent

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.config import Config, ConfigError
from jobs.config.load import DEFAULT_PATH, MAX_BYTES, load, locate, parse

PATH = Path("penstock.yaml")


def told(source: str | bytes) -> list[str]:
    """The lines of the error for a file's content, without the file's name."""
    with pytest.raises(ConfigError) as refusal:
        parse(dedent(source).encode() if isinstance(source, str) else source, PATH)
    lines = str(refusal.value).split("\n")
    assert all(line.startswith("penstock.yaml:") for line in lines)
    return [line.removeprefix("penstock.yaml:") for line in lines]


def parsed(source: str) -> Config:
    return parse(dedent(source).encode(), PATH)


def test_the_configured_file_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    DEFAULT_PATH.write_text("open_metrics: false\n")
    other = tmp_path / "other.yaml"
    other.write_text("open_metrics: true\n")

    assert locate(other) == other
    assert load(other).open_metrics is True


def test_without_one_it_is_penstock_yaml_in_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "penstock.yaml").write_text("open_metrics: true\n")

    assert load(None).open_metrics is True


def test_without_any_file_it_is_the_built_in_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    assert load(None) == Config()


def test_a_configured_file_that_is_missing_is_an_error(tmp_path: Path) -> None:
    missing = tmp_path / "none.yaml"

    with pytest.raises(ConfigError) as refusal:
        load(missing)

    assert str(refusal.value) == f"{missing}: there is no such file; correct PENSTOCK_CONFIG or create it"


def test_a_link_to_nothing_is_not_taken_for_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    DEFAULT_PATH.symlink_to("gone.yaml")

    with pytest.raises(ConfigError, match="no such file"):
        load(None)


def test_a_directory_and_a_pipe_are_refused_without_waiting(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)

    for path in (tmp_path, pipe):
        with pytest.raises(ConfigError, match="is not a regular file"):
            load(path)


def test_a_file_that_cannot_be_opened_says_why(tmp_path: Path) -> None:
    loop = tmp_path / "loop.yaml"
    loop.symlink_to(loop)

    with pytest.raises(ConfigError, match=r"loop\.yaml: cannot be read: .+"):
        load(loop)


def test_a_file_that_is_too_large_is_refused(tmp_path: Path) -> None:
    large = tmp_path / "large.yaml"
    large.write_bytes(b"#" * MAX_BYTES)
    assert load(large) == Config()

    large.write_bytes(b"#" * (MAX_BYTES + 1))
    with pytest.raises(ConfigError, match="larger than 1048576 bytes"):
        load(large)


def test_nothing_but_comments_is_the_built_in_configuration() -> None:
    assert parsed("# tiers:\n") == Config()


def test_a_byte_order_mark_of_utf_8_does_no_harm() -> None:
    assert parse(b"\xef\xbb\xbfopen_metrics: true\n", PATH).open_metrics is True


def test_a_whole_file() -> None:
    config = parsed(
        """\
        tiers:
          free:       {requests_per_minute: 20, block_s: 60, requests_per_day: null, tokens_per_day: 50000}
          enterprise: {requests_per_minute: 600, block_s: 10, tokens_per_day: null, weight: 16}
        anonymous: {tier: free, tokens_per_day: 1000000}
        upgrade_url: /pricing
        providers:
          openai:
            base_url: https://api.openai.com/v1
            api_key_env: OPENAI_API_KEY
            window_margin_s: 1
            tokens_per_minute: 200_000
            models:
              gpt-4o-mini: {tokens_per_minute: 100000, context_tokens: 128000}
              gpt-4o: {}
          local:
            base_url: http://127.0.0.1:8000
            accounting: actual
            models: {llama: {}}
            timeout_s: 0.5
        routes:
          chat: [openai/gpt-4o-mini, local/llama]
        webhooks: {allow_http: yes, allow: ["10.20.0.0/16", "hooks.internal", "127.0.0.1:9000"]}
        retention: {jobs_s: 86400, ledger_days: 7, usage_days: 90, dead_days: 30}
        limits: {body_bytes: 1048576, prompt_tokens: 200000}
        trusted_proxies: [10.0.0.0/8]
        open_metrics: true
        """
    )

    assert config.tiers["enterprise"].weight == 16
    assert config.anonymous is not None
    assert config.anonymous.tokens_per_day == 1_000_000
    assert config.providers["openai"].tokens_per_minute == 200_000
    assert config.providers["local"].timeout_s == 0.5
    assert [pool.id for pool in config.pools("chat")] == ["openai/gpt-4o-mini", "local/llama"]
    assert config.webhooks.allow_http is True
    assert config.webhooks.allow == ("10.20.0.0/16", "hooks.internal", "127.0.0.1:9000")


def test_aliases_are_followed() -> None:
    config = parsed("tiers:\n  a: &limits {weight: 3}\n  b: *limits\n")

    assert config.tier("b").weight == 3


def test_the_reason_names_file_line_setting_and_value() -> None:
    assert told(
        """\
        providers:
          openai:
            base_url: https://api.openai.com/v1
            models: {m: {}}
            timeout_s: -1
        """
    ) == ["5: providers.openai.timeout_s: must be greater than 0 (found -1)"]


def test_all_mistakes_are_told_at_once_in_the_order_of_the_file() -> None:
    assert told(
        """\
        tiers:
          free:
            request_per_minute: 20
            tokens_per_day: "50000"
          pro: {weight: 0,
                max_concurrent: 5.0, block_s: true}
        anonymous: {tier: fre}
        providers:
          openai:
            base_url: https://api.openai.com/v1
            window: strickt
            models:
              gpt-4.1: {encoding: [o200k_base]}
        routes:
          chat: [openai/gpt-4, openai/gpt-4.1, openai/gpt-4.1, local/x]
          gpt-4.1:
          - openai/gpt-4.1
          - gpt-4.1
        webhook: {}
        """
    ) == [
        '3: tiers.free.request_per_minute: is not a setting; did you mean "requests_per_minute"?',
        '4: tiers.free.tokens_per_day: must be a whole number (found "50000")',
        "5: tiers.pro.weight: must be at least 1 (found 0)",
        "6: tiers.pro.block_s: must be a whole number (found true)",
        "6: tiers.pro.max_concurrent: must be a whole number (found 5.0)",
        '7: anonymous.tier: there is no tier "fre" (there are: free, pro); did you mean "free"?',
        '11: providers.openai.window: must be strict or mirror (found "strickt")',
        '13: providers.openai.models."gpt-4.1".encoding: must be o200k_base or cl100k_base (found a list)',
        '15: routes.chat[0]: the provider "openai" has no model "gpt-4"; did you mean "openai/gpt-4.1"?',
        '15: routes.chat[2]: names the pool "openai/gpt-4.1" a second time',
        '15: routes.chat[3]: there is no provider "local"',
        '16: routes."gpt-4.1": is also a model of the provider "openai"; give the route a name of its own',
        '18: routes."gpt-4.1"[1]: "gpt-4.1" is not a pool: write provider/model; '
        'did you mean "openai/gpt-4.1"?',
        '19: webhook: is not a setting; did you mean "webhooks"?',
    ]


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        (
            "anonymous: {tier: gold}\n",
            '1: anonymous.tier: there is no tier "gold" (there are: free, pro, enterprise)',
        ),
        ("\nanonymous: {}\n", "2: anonymous.tier: is required"),
        ("tiers: {}\n", "1: tiers: must have at least one entry"),
        ("tiers:\n# none\n", "1: tiers: must be a mapping (found null)"),
        ("tiers: [free]\n", "1: tiers: must be a mapping (found a list)"),
        ("tiers:\n  free:\n", "2: tiers.free: must be a mapping of settings (found null)"),
        (
            "tiers:\n  free:\n    weight:\n      1001\n",
            "4: tiers.free.weight: must be at most 1000 (found 1001)",
        ),
        ("open_metrics: 1\n", "1: open_metrics: must be true or false (found 1)"),
        (
            "upgrade_url: 5\n",
            "1: upgrade_url: must be text (in quotes, if it looks like something else) (found 5)",
        ),
        ("trusted_proxies: 10.0.0.0/8\n", '1: trusted_proxies: must be a list (found "10.0.0.0/8")'),
        (
            "trusted_proxies:\n- 10.0.0.0/8\n- 10.0.0.1/8\n",
            '3: trusted_proxies[1]: "10.0.0.1/8" has bits set past its prefix; write "10.0.0.0/8"',
        ),
        (
            "routes: {a b: [openai/gpt-4o]}\n",
            '1: routes."a b": is not a usable name: 1 to 128 printable characters without spaces',
        ),
        (
            "retention:\n  ledger_days: 1e3\n",
            '2: retention.ledger_days: must be a whole number (found "1e3")',
        ),
        (
            "limits: {body_bytes: 99999999999999}\n",
            "1: limits.body_bytes: must be at most 1000000000000 (found 99999999999999)",
        ),
    ],
)
def test_reasons(source: str, problem: str) -> None:
    assert told(source) == [problem]


@pytest.mark.parametrize(
    "number", ["010", "0x10", "0b1", "1:30", ".inf", "-.inf", ".nan", "1__0", "9" * 5000, "1:30.5", "!!int x"]
)
def test_a_number_that_could_be_misread_is_refused(number: str) -> None:
    (problem,) = told(f"tiers:\n  free:\n    weight: {number}\n")

    assert problem.startswith("3: tiers.free.weight: must be written as a plain decimal number (found ")
    assert len(problem) < 200


def test_a_key_that_is_set_twice_is_refused_with_both_lines() -> None:
    assert told("open_metrics: true\ntiers:\n  a: {}\n  a: {weight: 2}\nopen_metrics: false\n") == [
        "4: tiers.a: is set a second time (first on line 3); keep one of the two",
        "5: open_metrics: is set a second time (first on line 1); keep one of the two",
    ]


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        (
            "tiers:\n  2026-01-01: {}\n",
            "2: tiers: has the key 2026-01-01, which YAML reads as timestamp; put it in quotes",
        ),
        ("tiers:\n  a: {}\n  5: {}\n", "3: tiers: has the key 5, which YAML reads as int; put it in quotes"),
        ("yes: 5\n", "1: has the key yes, which YAML reads as bool; put it in quotes"),
        ("tiers:\n  a: {}\n  [b, c]: {}\n", "3: tiers: has a key that is no text"),
        (
            "tiers:\n  a: &a {}\n  b: {<<: *a}\n",
            "3: tiers.b: merges with <<, which is not supported; write the settings out",
        ),
        ("upgrade_url: 2026-01-01\n", "1: upgrade_url: is read by YAML as timestamp; put it in quotes"),
        ("upgrade_url: !!binary aGk=\n", "1: upgrade_url: is read by YAML as binary; put it in quotes"),
        (
            "tiers: !!python/name:os.abort [ls]\n",
            "1: tiers: has the tag python/name:os.abort, which has no meaning here",
        ),
        ("tiers: !!set {a}\n", "1: tiers: has the tag set, which has no meaning here"),
        ("- tiers\n", '1: must be a mapping of settings, such as "tiers: …"'),
        ("tiers\n", '1: must be a mapping of settings, such as "tiers: …"'),
    ],
)
def test_yaml_that_is_no_plain_mapping_of_plain_values(source: str, problem: str) -> None:
    assert told(source) == [problem]


@pytest.mark.parametrize(
    ("source", "start"),
    [
        (b"tiers:\n  a: {weight: 1\n  b: }\n", "3: is not YAML: "),
        (b"tiers:\n\tfree: {}\n", "2: is not YAML: found character '\\t' that cannot start any token"),
        (b"a: 1\n---\nb: 1\n", "2: is not YAML: but found another document"),
        (b"tiers: *none\n", "1: is not YAML: found undefined alias 'none'"),
        (b"a: 1\nb: \x00\n", "2: has a character (#x0000) no YAML may have"),
        (rb'upgrade_url: "/\ud800"', r"1: upgrade_url: has half of a character (an escape from \ud800"),
        (rb'"a\ud800": 1', "1: has a key with half of a character"),
        (b"a: 1\n# caf\xe9\n", "2: is not UTF-8; save the file in that encoding"),
        ("a: 1\n".encode("utf-16"), "1: is not UTF-8; save the file in that encoding"),
        (b"", "1: is empty; "),
        (b"\xef\xbb\xbf", "1: is empty; "),
        (b" \n\n", "1: is empty; "),
        (b"[" * 5000, "1: is nested deeper than 16 levels"),
        (b"a: " + b"[" * 20 + b"]" * 20, "1: is nested deeper than 16 levels"),
        (b"a: &a {b: *a}\n", "1: is nested deeper than 16 levels"),
    ],
)
def test_what_is_no_yaml_says_where(source: bytes, start: str) -> None:
    (problem,) = told(source)

    assert problem.startswith(start)


def test_what_a_message_quotes_can_neither_break_its_line_nor_fill_the_screen() -> None:
    (escaped,) = told(r'anonymous: {tier: "a\nb\e[31m"}')
    (long,) = told(f"routes: {{chat: [{'x' * 9000}]}}")

    assert escaped.startswith(r'1: anonymous.tier: there is no tier "a\nb\x1b[31m" ')
    assert long.startswith('1: routes.chat[0]: "xxxx')
    assert len(long) < 500


def test_aliases_of_aliases_do_not_grow_without_bound() -> None:
    levels = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    levels += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]

    assert told("\n".join(levels)) == ["1: has more than 50000 values, its aliases followed"]


@pytest.mark.parametrize(
    "source",
    [
        "providers: {p: {base_url: 'http://x', models: {m: {}}, api_key_env: sk-abcdefghijklmnop}}",
        "providers: {p: {base_url: 'http://x', models: {m: {}}, api_key: sk-abcdefghijklmnop}}",
        "providers: {p: {base_url: 'http://u:sk-abcdefghijklmnop@x', models: {m: {}}}}",
        "providers: {p: {base_url: 'http://x', models: {m: {}}, timeout_s: sk-abcdefghijklmnop}}",
        "providers: {p: sk-abcdefghijklmnop}",
        "sk-abcdefghijklmnop: 1",
        "webhooks: {allow: ['https://u:sk-abcdefghijklmnop@x']}",
        "providers: {p: sk-abcdefghijklmnop, p: {}}}",
    ],
)
def test_a_key_in_the_file_is_in_no_message(source: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        parse(source.encode(), PATH)

    assert "abcdefgh" not in str(refusal.value)
    assert "abcdefgh" not in repr(refusal.value.problems)
    assert refusal.value.__cause__ is None
    assert refusal.value.__suppress_context__


MARKS = "{}[]:,-&*!|>'\"# \n\tab01<\\ud8"
STEADY = settings(derandomize=True, deadline=None)
NAMES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,10}", fullmatch=True)


@STEADY
@given(
    names=st.lists(NAMES, min_size=1, max_size=8, unique=True),
    data=st.data(),
    gaps=st.lists(st.sampled_from(["", "# comment", "\n"]), min_size=8, max_size=8),
)
def test_a_mistake_anywhere_is_found_on_its_line(
    names: list[str], data: st.DataObject, gaps: list[str]
) -> None:
    wrong = data.draw(st.sampled_from(names))
    lines = ["tiers:"]
    expected = 0
    for name, gap in zip(names, gaps, strict=False):
        lines += gap.split("\n") if gap else []
        lines += [f'  "{name}":', f"    weight: {0 if name == wrong else 1}"]
        if name == wrong:
            expected = len(lines)

    (problem,) = told("\n".join(lines))

    assert problem.startswith(f"{expected}: tiers.")
    assert problem.endswith(".weight: must be at least 1 (found 0)")


@STEADY
@given(
    st.fixed_dictionaries(
        {},
        optional={
            "tiers": st.dictionaries(
                NAMES,
                st.fixed_dictionaries(
                    {},
                    optional={
                        "tokens_per_day": st.none() | st.integers(0, 10**12),
                        "max_concurrent": st.none() | st.integers(1, 10**12),
                        "weight": st.integers(1, 1000),
                    },
                ),
                min_size=1,
            ),
            "open_metrics": st.booleans(),
            "retention": st.fixed_dictionaries({"ledger_days": st.integers(1, 36_500)}),
        },
    ).filter(bool)
)
def test_what_yaml_writes_is_read_as_it_was_meant(values: dict[str, object]) -> None:
    assert parse(yaml.safe_dump(values).encode(), PATH) == Config.model_validate(values)


@STEADY
@given(st.binary(max_size=200) | st.text(alphabet=MARKS, max_size=60).map(str.encode))
def test_no_content_gives_anything_but_a_configuration_or_an_explained_refusal(source: bytes) -> None:
    with contextlib.suppress(ConfigError):
        parse(source, PATH)
