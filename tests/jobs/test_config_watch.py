"""A running process follows its configuration file."""

# ruff: noqa: ASYNC240 - writing the few bytes of a test's own file keeps nothing else waiting

import asyncio
import contextlib
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from jobs.config import Config, ConfigError, ConfigWatcher
from jobs.config.load import load


class Watched:
    """A watcher of a file, with what it reported. One `look` is as long as any change takes to count."""

    def __init__(self, path: Path | None, current: Config | None = None) -> None:
        self.changes: list[Config] = []
        self.errors: list[str] = []
        self.watcher = ConfigWatcher(
            current or load(path),
            path,
            on_change=self.changes.append,
            on_error=lambda error: self.errors.append(str(error)),
        )

    async def look(self) -> None:
        for _ in range(3):
            await self.watcher.check()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "penstock.yaml"
    file.write_text("tiers: {a: {weight: 1}}\n")
    return file


def weight(config: Config) -> int:
    return config.tier("a").weight


async def test_an_unchanged_file_is_silent(path: Path) -> None:
    watched = Watched(path)

    await watched.look()

    assert (watched.changes, watched.errors) == ([], [])


async def test_an_edit_in_place_is_taken_over(path: Path) -> None:
    watched = Watched(path)
    await watched.look()

    path.write_text("tiers: {a: {weight: 2}}\n")
    await watched.look()

    assert [weight(config) for config in watched.changes] == [2]
    assert weight(watched.watcher.current) == 2


async def test_an_edit_that_keeps_size_and_time_is_taken_over(path: Path) -> None:
    watched = Watched(path)
    await watched.look()
    before = path.stat()

    path.write_text("tiers: {a: {weight: 2}}\n")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    await watched.look()

    assert weight(watched.watcher.current) == 2


async def test_a_replaced_file_is_taken_over(path: Path) -> None:
    watched = Watched(path)
    await watched.look()

    other = path.with_name("new")
    other.write_text("tiers: {a: {weight: 2}}\n")
    other.replace(path)
    await watched.look()

    assert weight(watched.watcher.current) == 2


async def test_a_switched_link_is_taken_over(tmp_path: Path) -> None:
    """As Kubernetes does it: the file is a link through a directory that is itself a link."""
    for version in (1, 2):
        directory = tmp_path / f"..version_{version}"
        directory.mkdir()
        (directory / "penstock.yaml").write_text(f"tiers: {{a: {{weight: {version}}}}}\n")
    (tmp_path / "..data").symlink_to("..version_1")
    path = tmp_path / "penstock.yaml"
    path.symlink_to("..data/penstock.yaml")
    watched = Watched(path)
    await watched.look()

    (tmp_path / "..data_tmp").symlink_to("..version_2")
    (tmp_path / "..data_tmp").replace(tmp_path / "..data")
    await watched.look()

    assert weight(watched.watcher.current) == 2


async def test_an_edit_between_the_load_at_the_start_and_the_first_look_is_not_lost(path: Path) -> None:
    watched = Watched(path)

    path.write_text("tiers: {a: {weight: 2}}\n")
    await watched.look()

    assert weight(watched.watcher.current) == 2


async def test_a_change_of_comments_alone_is_no_change(path: Path) -> None:
    watched = Watched(path)
    before = watched.watcher.current

    path.write_text("# the only one\ntiers: {a: {weight: 1}}\n")
    await watched.look()

    assert watched.changes == []
    assert watched.watcher.current is before


async def test_a_file_that_is_still_being_written_does_not_count(path: Path) -> None:
    path.write_text("tiers: {a: {weight: 2}}\nopen_metrics: true\n")
    watched = Watched(path)
    await watched.look()

    path.write_text("")
    await watched.watcher.check()
    path.write_text("tiers: {a: {weight: 3}}\n")
    await watched.watcher.check()
    path.write_text("tiers: {a: {weight: 3}}\nopen_metrics: true\n")
    await watched.look()

    assert [(weight(config), config.open_metrics) for config in watched.changes] == [(3, True)]
    assert watched.errors == []


async def test_a_wrong_edit_is_refused_and_reported_once(path: Path) -> None:
    watched = Watched(path)
    await watched.look()

    path.write_text("\ntiers: {a: {weight: 0}}\n")
    await watched.look()
    await watched.look()

    assert watched.errors == [f"{path}:2: tiers.a.weight: must be at least 1 (found 0)"]
    assert watched.changes == []
    assert weight(watched.watcher.current) == 1


async def test_another_wrong_edit_is_reported_as_well_and_the_correction_taken_over(path: Path) -> None:
    watched = Watched(path)

    for value in (0, -1, 5):
        path.write_text(f"tiers: {{a: {{weight: {value}}}}}\n")
        await watched.look()

    assert [error.partition("(")[2] for error in watched.errors] == ["found 0)", "found -1)"]
    assert [weight(config) for config in watched.changes] == [5]


async def test_a_file_that_vanishes_leaves_the_last_configuration_and_is_reported_once(path: Path) -> None:
    watched = Watched(path)
    await watched.look()

    path.unlink()
    await watched.look()
    await watched.look()
    assert watched.errors == [f"{path}: has vanished; what it last said stays in force"]

    path.write_text("tiers: {a: {weight: 2}}\n")
    await watched.look()
    assert [weight(config) for config in watched.changes] == [2]


async def test_a_file_that_cannot_be_read_leaves_the_last_configuration_and_is_reported_once(
    path: Path,
) -> None:
    watched = Watched(path)
    await watched.look()

    path.unlink()
    path.mkdir()
    await watched.look()
    await watched.look()

    assert watched.errors == [f"{path}: is not a regular file, so that changes of it could not be followed"]
    assert weight(watched.watcher.current) == 1


async def test_without_a_file_at_the_start_one_that_appears_is_taken_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    watched = Watched(None)
    await watched.look()
    assert (watched.changes, watched.errors) == ([], [])

    Path("penstock.yaml").write_text("tiers: {a: {weight: 7}}\n")
    await watched.look()

    assert weight(watched.watcher.current) == 7


async def test_current_is_already_the_new_one_when_the_change_is_told(path: Path) -> None:
    seen: list[Config] = []

    def on_change(config: Config) -> None:
        seen.extend([config, watcher.current])

    def on_error(error: ConfigError) -> None:
        raise error

    watcher = ConfigWatcher(Config(), path, on_change=on_change, on_error=on_error)
    for _ in range(2):
        await watcher.check()

    assert seen[0] is seen[1]
    assert weight(seen[0]) == 1


def _steps(*steps: Callable[[], object]) -> tuple[list[float], Callable[[float], Awaitable[None]]]:
    """A sleep that takes one step of a story each time, and cancels the sleeper after the last."""
    slept: list[float] = []
    left = iter(steps)

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        step = next(left, None)
        if step is None:
            raise asyncio.CancelledError
        step()

    return slept, sleep


async def test_run_looks_twice_a_second_and_a_change_counts_from_the_second_look_on(path: Path) -> None:
    changes: list[Config] = []
    told_at: list[int] = []
    slept, sleep = _steps(
        lambda: path.write_text("tiers: {a: {weight: 2}}\n"),
        lambda: told_at.append(len(changes)),
        lambda: told_at.append(len(changes)),
    )
    watcher = ConfigWatcher(load(path), path, on_change=changes.append, on_error=lambda _: None, sleep=sleep)

    with contextlib.suppress(asyncio.CancelledError):
        await watcher.run()

    assert slept == [0.5] * 4
    assert told_at == [0, 1]


async def test_a_running_watcher_takes_a_change_over(path: Path) -> None:
    changed = asyncio.Event()
    watcher = ConfigWatcher(load(path), path, on_change=lambda _: changed.set(), on_error=lambda _: None)
    running = asyncio.create_task(watcher.run())

    path.write_text("tiers: {a: {weight: 2}}\n")
    async with asyncio.timeout(20):
        await changed.wait()

    assert weight(watcher.current) == 2
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
