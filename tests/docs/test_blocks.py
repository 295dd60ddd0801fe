"""Every block of every page is of a kind that a test looks at, and what it holds can be used."""

import json
from pathlib import Path

import pytest

from jobs.config import Config
from jobs.config.load import parse
from tests.docs.pages import KINDS, PAGES, ROOT, Block, blocks, blocks_of, commands_of

LONGEST_README_LINES = 220


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_blocks_are_of_a_kind_that_is_checked(page: Path) -> None:
    found = blocks_of(page)
    assert {block.language for block in found} <= set(KINDS)
    assert page.read_text().count("\n```") == 2 * len(found), "a block is not closed, or within another one"


@pytest.mark.parametrize("block", blocks(), ids=lambda block: block.place)
def test_what_a_block_holds_can_be_used(block: Block) -> None:
    match block.language:
        case "yaml":
            assert parse(block.text.encode(), block.page) != Config()
        case "json":
            json.loads(block.text)
        case "sh" | "console":
            assert commands_of(block)
        case _:
            # Pictures and messages: the files that they name are looked for with those of the text.
            assert block.text.strip()


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= LONGEST_README_LINES
