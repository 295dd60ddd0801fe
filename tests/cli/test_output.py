"""What people and scripts get to see."""

import json
import sys

import pytest

from cli.output import console, duration, moment, number, print_json, print_text, printable, table


def test_no_answer_steers_the_terminal() -> None:
    assert printable("\x1b[2Jhello\x07\x9b1m\x7f") == "\\x1b[2Jhello\\x07\\x9b1m\\x7f"


@pytest.mark.parametrize("text", ["naïve 日本語 😀", "two\nlines\tand a tab", "\x1b[2J", "[bold] :smile:"])
def test_a_result_goes_into_a_pipe_as_it_is(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    print_text(text)
    assert capsys.readouterr().out == f"{text}\n"


def test_a_terminal_gets_what_cannot_steer_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    print_text("\x1b[2Jnaïve")
    assert capsys.readouterr().out == "\\x1b[2Jnaïve\n"


def test_what_looks_like_markup_is_text(capsys: pytest.CaptureFixture[str]) -> None:
    console().print("[bold]no markup[/bold] :smile:")
    assert capsys.readouterr().out == "[bold]no markup[/bold] :smile:\n"


def test_rows_are_neither_folded_nor_cut_in_a_pipe(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    console().print(table(("id", "text"), [("job_1", "word " * 50)]))
    header, row = capsys.readouterr().out.splitlines()
    assert header.split() == ["id", "text"]
    assert row.split() == ["job_1", *["word"] * 50]


def test_json_is_one_document_with_text_as_text(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"answer": "grün", "usage": None})
    printed = capsys.readouterr().out
    assert json.loads(printed) == {"answer": "grün", "usage": None}
    assert "grün" in printed


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(-3, "0 s"), (0.2, "1 s"), (59.5, "1 min 0 s"), (125, "2 min 5 s"), (7260, "2 h 1 min")],
)
def test_spans_are_rounded_up(seconds: float, told: str) -> None:
    assert duration(seconds) == told


def test_what_is_not_there_is_a_dash() -> None:
    assert (number(None), moment(None)) == ("-", "-")
    assert (number(12345), moment(1_790_000_000)) == ("12,345", "2026-09-21 14:13:20")
