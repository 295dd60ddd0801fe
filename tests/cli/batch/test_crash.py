"""A batch that is killed at every point where something becomes known to somebody, and started again."""

import contextlib
import os
import random
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from cli.batch.journal import Journal
from cli.errors import CommandError
from tests.cli.batch.rig import Rig
from tests.cli.batch.service import FakeService, JumpingClock

PROMPTS = ["one", "two", "three", "will fail", "last"]


class KilledError(BaseException):
    """kill -9: whoever gets it does nothing more."""


class Fuse:
    """Lets so many steps pass; from then on nothing that anybody does has an effect."""

    def __init__(self, steps: int) -> None:
        self.left = steps

    def step(self, what: str) -> None:
        """One more point at which the process may end."""
        self.left -= 1
        if self.left < 0:
            raise KilledError(what)


def journal_that_burns(fuse: Fuse) -> type[Journal]:
    class Burning(Journal):
        def commit(self) -> None:
            fuse.step("before a commit")
            super().commit()
            fuse.step("after a commit")

    return Burning


@contextlib.contextmanager
def burning_files(fuse: Fuse, patch: pytest.MonkeyPatch) -> Iterator[None]:
    """What the output does to the disk ends with the fuse as well."""
    sync, replace = os.fsync, Path.replace

    def synced(fd: int) -> None:
        fuse.step("before the file is on the disk")
        sync(fd)
        fuse.step("after it")

    def replaced(path: Path, target: Path) -> Path:
        fuse.step("before the file is replaced")
        done = replace(path, target)
        fuse.step("after it")
        return done

    with patch.context() as patched:
        patched.setattr("cli.batch.output.os.fsync", synced)
        patched.setattr(Path, "replace", replaced)
        yield


async def killed_after(rig: Rig, steps: int, patch: pytest.MonkeyPatch) -> bool:
    """Runs on for so many steps; whether it was killed then."""
    fuse = Fuse(steps)
    rig.service.step = fuse.step
    try:
        with burning_files(fuse, patch):
            await rig.run(journal_class=journal_that_burns(fuse))
    except KilledError:
        return True
    finally:
        rig.service.step = lambda what: None
    return False


def tear(rig: Rig, chance: random.Random) -> None:
    """What was written behind the journal's last word may have reached the disk in part, or as something else."""
    with closing(Journal.open(rig.state)) as journal:
        facts = journal.facts()
        certain = journal.written.size_bytes
        if "replacing_bytes" in facts and not (rig.folder / "out.jsonl.new").exists():
            certain = int(facts["replacing_bytes"])
    if rig.target.exists():
        content = rig.target.read_bytes()
        assert len(content) >= certain
        kept = chance.randint(certain, len(content))
        rig.target.write_bytes(content[:kept] + chance.choice([b"", b"\x00\x00", b'{"id":"to']))


def check(rig: Rig, jobs: int) -> None:
    assert [one["custom_id"] for one in rig.lines] == [f"line-{n + 1}" for n in range(len(PROMPTS))]
    failing = rig.service.failing
    assert rig.echoes == [None if failing and "fail" in prompt else prompt for prompt in PROMPTS]
    assert len(rig.service.jobs) == jobs


async def each_point(folder: Path, patch: pytest.MonkeyPatch, *, of_a_retry: bool) -> int:
    """Kills a batch at each point of its way, lets another run end it, and looks at the outcome: how many points."""
    points = 0
    while True:
        rig = Rig(folder / str(points), FakeService(JumpingClock(), takes_s=1.5), in_flight=3)
        rig.folder.mkdir()
        rig.begin(*PROMPTS)
        if of_a_retry:
            await rig.run()
            rig.retry()
            rig.service.failing = False
        was_killed = await killed_after(rig, points, patch)
        tear(rig, random.Random(points))
        await rig.run()
        check(rig, len(PROMPTS) + of_a_retry)
        if not was_killed:
            return points
        points += 1


async def test_a_crash_at_any_point_loses_nothing_and_submits_nothing_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    points = await each_point(tmp_path, monkeypatch, of_a_retry=False)
    assert points > 40


async def test_a_crash_while_lines_are_tried_again_loses_neither_the_old_nor_the_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    points = await each_point(tmp_path, monkeypatch, of_a_retry=True)
    assert points > 12


async def test_a_crash_of_the_crash_is_no_different(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chance = random.Random(7)
    for number in range(8):
        rig = Rig(tmp_path / str(number), FakeService(JumpingClock(), takes_s=1.5), in_flight=3)
        rig.folder.mkdir()
        rig.begin(*PROMPTS)
        while await killed_after(rig, chance.randint(1, 25), monkeypatch):
            tear(rig, chance)
        check(rig, len(PROMPTS))


async def test_an_output_that_has_lost_lines_is_told(tmp_path: Path) -> None:
    rig = Rig(tmp_path, FakeService(JumpingClock()))
    rig.begin(*PROMPTS)
    await rig.run()
    rig.target.write_bytes(rig.target.read_bytes()[:100])
    with pytest.raises(CommandError, match="has lost lines"):
        await rig.run()
    assert rig.target.stat().st_size == 100
