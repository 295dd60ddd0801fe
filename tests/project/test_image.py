"""The Dockerfile: hashed dependencies, every room, no root, no shell between a signal and the process."""

import json

from tests.project.files import ROOT, rooms


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile's instructions with their arguments, continued lines joined."""
    text = (ROOT / "Dockerfile").read_text()
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ").splitlines()
    return [(word, " ".join(rest.split())) for word, _, rest in (line.partition(" ") for line in joined)]


def arguments(word: str) -> list[str]:
    """The arguments of every such instruction."""
    return [rest for name, rest in instructions() if name == word]


def last_stage() -> list[tuple[str, str]]:
    """The instructions of the stage that becomes the image."""
    found = instructions()
    starts = [index for index, (word, _) in enumerate(found) if word == "FROM"]
    return found[starts[-1] :]


def copied_from_the_checkout() -> set[str]:
    """What the build takes from the build context."""
    return {
        source.removeprefix("./")
        for rest in arguments("COPY")
        if not rest.startswith("--from=")
        for source in rest.split()[:-1]
    }


def test_every_room_is_copied() -> None:
    assert set(rooms()) <= copied_from_the_checkout()


def test_the_build_context_is_exactly_what_is_copied() -> None:
    rules = (ROOT / ".dockerignore").read_text().splitlines()
    assert "*" in rules
    assert {rule[1:] for rule in rules if rule.startswith("!")} == copied_from_the_checkout()


def test_packages_come_with_hashes_or_from_no_registry() -> None:
    installs = [
        part
        for rest in arguments("RUN")
        for part in rest.split("&&")
        if "pip" in part and " install " in part
    ]
    assert installs
    for install in installs:
        assert "--require-hashes" in install or "--no-index --no-deps" in install, install


def test_the_image_runs_penstock_itself_as_a_numbered_user() -> None:
    stage = dict(last_stage())
    assert json.loads(stage["ENTRYPOINT"]) == ["penstock"]
    assert json.loads(stage["CMD"]) == ["--help"]
    user, group = stage["USER"].split(":")
    assert int(user) > 0
    assert int(group) > 0


def test_nothing_is_compiled_at_run_time() -> None:
    assert "PYTHONDONTWRITEBYTECODE=1" in dict(last_stage())["ENV"]
