"""What becomes of a script's fragments: each once, without what nothing needs, names of keys where they are used."""

from pathlib import Path

import pytest

from limiter.compose import compose

KEYS = """local key = {}
key.DUE = 'due'
function key.job(id) return 'job:' .. id end
function key.lane(name, user) return 'lane:' .. name .. ' ' .. user end
function key.twice(id) return id .. ':' .. id end
"""


def composed(tmp_path: Path, script: str) -> list[str]:
    """The lines of a script that uses KEYS."""
    (tmp_path / "keys.lua").write_text(KEYS)
    (tmp_path / "script.lua").write_text(f"-- @use keys\n{script}")
    return [line for line in compose(tmp_path / "script.lua", (tmp_path,)).split("\n") if line]


def test_a_fragment_is_put_in_once_after_what_it_needs(tmp_path: Path) -> None:
    (tmp_path / "first.lua").write_text("-- @use base\nlocal first = base\n")
    (tmp_path / "second.lua").write_text("-- @use base\n-- @use first\nlocal second = first\n")
    (tmp_path / "base.lua").write_text("local base = 1\n")
    (tmp_path / "script.lua").write_text("-- @use second\n-- @use first\nreturn second\n")
    lines = compose(tmp_path / "script.lua", (tmp_path,)).split("\n")
    assert [line for line in lines if line] == [
        "local base = 1",
        "local first = base",
        "local second = first",
        "return second",
    ]


def test_a_fragment_that_nobody_has_is_named(tmp_path: Path) -> None:
    (tmp_path / "script.lua").write_text("-- @use nothing\nreturn 1\n")
    with pytest.raises(FileNotFoundError, match=r"the fragment 'nothing' is in none of"):
        compose(tmp_path / "script.lua", (tmp_path,))


@pytest.mark.parametrize(
    ("used", "stands"),
    [
        ("return key.DUE", "return 'due'"),
        ("return key.job(id)", "return ('job:' .. (id))"),
        ("return key.job(a or b.c[1])", "return ('job:' .. (a or b.c[1]))"),
        (
            "return key.lane(f(a, {b, c}), ',)' .. d)",
            "return ('lane:' .. (f(a, {b, c})) .. ' ' .. (',)' .. d))",
        ),
        ("return key.lane(key.job(a), key.DUE)", "return ('lane:' .. (('job:' .. (a))) .. ' ' .. ('due'))"),
        ("return my.key.DUE, key.DUES, monkey.job(a)", "return my.key.DUE, key.DUES, monkey.job(a)"),
    ],
)
def test_a_name_of_a_key_stands_where_it_is_used(tmp_path: Path, used: str, stands: str) -> None:
    assert composed(tmp_path, f"{used}\n") == ["local key = {}", stands]


def test_a_function_that_is_handed_on_or_needs_an_argument_twice_stays(tmp_path: Path) -> None:
    lines = composed(tmp_path, "return tidy(key.job, key.twice(f()))\n")
    assert lines == [
        "local key = {}",
        "function key.job(id) return 'job:' .. id end",
        "function key.twice(id) return id .. ':' .. id end",
        "return tidy(key.job, key.twice(f()))",
    ]


def test_a_name_in_a_text_needs_no_function(tmp_path: Path) -> None:
    (tmp_path / "script.lua").write_text("local function job(id) return id end\nreturn 'job'\n")
    assert compose(tmp_path / "script.lua", (tmp_path,)) == "return 'job'\n"
