"""Puts the newest results into the pages: `python -m bench.render [--check]`.

What stands between `<!-- bench: QUESTION -->` and `<!-- bench: end -->` is that question's table in bench/results/.
"""

import argparse
import re
import sys
from collections.abc import Callable
from pathlib import Path

from bench.report import RESULTS

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "performance.md"

_PLACE = re.compile(r"(<!-- bench: (?!end)([\w-]+) -->\n)(.*?)(<!-- bench: end -->)", re.DOTALL)
_PLOT = re.compile(r"(!\[[^\]]*\]\()([\w-]+\.svg\))")
_NOTHING = "No result of this question is kept yet.\n"


def rendered(page: str, result_of: Callable[[str], str | None]) -> str:
    """The page with each place filled by the result of its question (Markdown), None where there is none."""

    def fill(place: re.Match[str]) -> str:
        text = result_of(place[2]) or _NOTHING
        shown = _PLOT.sub(r"\1../bench/results/\2", text)
        return f"{place[1]}\n{shown}\n{place[4]}"

    return _PLACE.sub(fill, page)


def result_of(question: str) -> str | None:
    """The kept Markdown of a question."""
    path = RESULTS / f"{question}.md"
    return path.read_text(encoding="utf-8") if path.exists() else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--check", action="store_true", help="change nothing; fail if something would change")
    check: bool = parser.parse_args().check
    before = PAGE.read_text(encoding="utf-8")
    after = rendered(before, result_of)
    if check and after != before:
        sys.exit(f"{PAGE.relative_to(ROOT)} does not show the results that are kept: python -m bench.render")
    PAGE.write_text(after, encoding="utf-8")


if __name__ == "__main__":
    main()
