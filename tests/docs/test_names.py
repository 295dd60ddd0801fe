"""What the pages name exists: files, anchors, variables, routes, fields, codes and keys; and what exists is named."""

import re
from pathlib import Path
from typing import get_args

import pytest

from api.app import create_app
from api.errors import KINDS
from api.openapi.document import SCHEMAS
from api.submission import Submission
from jobs.config import Config
from jobs.connection import connect
from jobs.environment import Environment
from jobs.record import ErrorCode
from tests.docs.pages import PAGES, ROOT, blocks_of, prose
from tests.docs.redis_keys import Key, channels, documented, made, wrong_expiries
from tests.project.files import rooms

HTTP = (ROOT / "docs" / "http.md").read_text()
FOLDERS = (*rooms(), "tests", "docs", "deploy", "bench", "examples")
PATH = re.compile(rf"(?<![\w/.{{])(?:{'|'.join(FOLDERS)})/[\w./*-]*\w")
PLACEHOLDER = re.compile(r"\{\w+\}")


def each_page() -> pytest.MarkDecorator:
    return pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def section(title: str) -> str:
    """A section of docs/http.md, up to the next heading of any level."""
    start = HTTP.index(f"# {title}\n")
    return HTTP[start : HTTP.find("\n#", start + len(title) + 3)]


def first_cells(text: str) -> set[str]:
    """The names in the first column of a section's tables."""
    return {
        name
        for row in re.findall(r"^\| (`[^|]*)\|", text, re.MULTILINE)
        for name in re.findall(r"`([^`]+)`", row)
    }


@each_page()
def test_links_lead_somewhere(page: Path) -> None:
    text = prose(page)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith("https://"):
            continue
        name, _, anchor = target.partition("#")
        linked = (page.parent / name) if name else page
        assert linked.exists(), target
        if anchor:
            assert anchor in anchors(linked), target
    for reference in re.findall(r"\]\[(\w+)\]", text):
        assert re.search(rf"^\[{reference}\]: https://", text, re.MULTILINE), reference


@each_page()
def test_files_that_are_named_exist(page: Path) -> None:
    text = page.read_text()
    shown = [block.text for block in blocks_of(page) if block.language != "console"]
    code = [*re.findall(r"`([^`\n]+)`", prose(page)), *shown]
    for path in {path for part in code for path in PATH.findall(part)}:
        assert [*ROOT.glob(path)], path
    for name in set(re.findall(r"`([a-z_]+\.lua)`", text)):
        assert any((ROOT / room / "lua" / name).exists() for room in ("jobs", "limiter")), name


@each_page()
def test_environment_variables_that_are_named_exist(page: Path) -> None:
    known = {str(field.validation_alias) for field in Environment.model_fields.values()}
    known |= set(re.findall(r"PENSTOCK_\w+", (ROOT / "docker-compose.yml").read_text()))
    named = set(re.findall(r"\b(?:PENSTOCK_[A-Z_]+[A-Z]|REDIS_URL)\b", page.read_text()))
    assert named <= known


async def test_every_route_is_in_the_http_reference_and_no_other() -> None:
    redis = connect("redis://127.0.0.1:1/0", client_name="documentation")
    app = create_app(Config(), Environment.load(secret="a secret of the documentation"), redis)
    served = {
        (method, path)
        for route in app.router.routes
        if (path := getattr(route, "path", "")).startswith(("/v1/", "/healthz", "/readyz", "/metrics"))
        for method in getattr(route, "methods", ())
    }
    named = set(re.findall(r"`(GET|POST|PATCH|PUT|DELETE) (/[^`?]+)`", HTTP))
    await redis.aclose()
    assert named == served


def test_every_field_of_a_submission_is_in_the_reference_and_no_other() -> None:
    assert first_cells(section("`POST /v1/jobs`")) == set(Submission.model_fields)


def test_every_member_of_the_job_is_in_the_reference_and_no_other() -> None:
    table, _, codes = section("The job object").partition("`error.code` is one of")
    assert first_cells(table) == set(SCHEMAS["Job"]["properties"])
    assert first_cells(codes) <= set(get_args(ErrorCode))


def test_every_error_is_in_the_reference_with_its_status_and_no_other() -> None:
    rows = re.findall(r"^\| (\d{3}) +\| `(\w+)`", section("Errors"), re.MULTILINE)
    assert {code: int(status) for status, code in rows} == {code: kind.status for code, kind in KINDS.items()}


def test_every_key_is_in_the_list_of_keys_and_no_other() -> None:
    assert {key.pattern for key in documented()} | channels() == made()


def test_a_key_that_stays_or_is_unknown_is_found() -> None:
    keys = [Key("job:<id>", "a day"), Key("jobs", "none: one"), Key("usage:<user>:<day>", "a day")]
    assert wrong_expiries({"job:1": 5, "jobs": -1, "usage:ana:2026-11-23": 7}, keys) == []
    assert len(wrong_expiries({"job:1": -1, "jobs": 5, "other": -1}, keys)) == 3
