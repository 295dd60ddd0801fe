"""What the simulator does wrong on purpose: fault markers in prompts, faults by rate and by schedule.

A marker stands anywhere in the last user message: `[[fail:500]]`, `[[slow:3]]`, `[[hang]]`. With `xN` at its
end (`[[fail:500x2]]`, `[[resetx1]]`) it acts on the first N attempts of that very prompt only. Names that are
no fault are left alone: prompts may contain brackets.
"""

import math
import random
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from simulator.errors import FaultsError

QUOTA = "quota"

_MARKER = re.compile(r"\[\[([a-z-]+?)(?::([^\]]*?))?(?:x(\d{1,9}))?\]\]")


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault: its name, what follows the colon ("" if nothing), and for how many attempts (None: all)."""

    name: str
    value: str = ""
    times: int | None = None

    @property
    def spec(self) -> str:
        """The fault as it is written, without its number of attempts."""
        return f"{self.name}:{self.value}" if self.value else self.name


@dataclass(frozen=True, slots=True)
class Scheduled:
    """A fault that hits every request from `from_s` until before `to_s`, in seconds since the schedule was
    loaded.
    """

    from_s: float
    to_s: float
    fault: Fault


@dataclass(frozen=True, slots=True)
class FaultsConfig:
    """A file of faults: `rate` gives the share of requests (0 to 1) each fault hits."""

    rate: tuple[tuple[Fault, float], ...] = ()
    schedule: tuple[Scheduled, ...] = ()


@dataclass(frozen=True, slots=True)
class FaultPlan:
    """What is done to one request: `latency_s` and `usage` replace the ordinary ones, `ending` replaces the
    answer.
    """

    latency_s: float | None = None
    usage: str | None = None
    without_usage: bool = False
    ending: Fault | None = None
    label: str | None = None


NO_FAULT = FaultPlan()


def parse_fault(spec: str) -> Fault:
    """Read `name`, `name:value` or either with `xN`; a `FaultsError` says what is wrong with it."""
    match = _MARKER.fullmatch(f"[[{spec}]]")
    if match is None:
        raise FaultsError(f"{spec!r} is no fault; write one like fail:500, slow:3 or hang")
    return _checked(match)


def parse_faults(text: str, source: str) -> FaultsConfig:
    """Read a file of faults (YAML or JSON); a `FaultsError` begins with `source` and gives the place and the
    reason.
    """
    try:
        document: object = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise FaultsError(f"{source}: not YAML: {' '.join(str(error).split())}") from None
    if document is None:
        return FaultsConfig()
    try:
        sections = _mapping(document, "the file", {"rate", "schedule"})
        return FaultsConfig(_rates(sections.get("rate")), _schedule(sections.get("schedule")))
    except FaultsError as error:
        raise FaultsError(f"{source}: {error}") from None


def read_faults(path: Path) -> FaultsConfig:
    """Read the file of faults at `path`; a `FaultsError` says why it cannot be used."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise FaultsError(f"{path}: cannot be read: {error}") from None
    return parse_faults(text, str(path))


class FaultInjector:
    """Chooses the faults of each request: a prompt's markers, else the schedule, else the rates (seeded)."""

    def __init__(self, config: FaultsConfig, *, seed: int, now_s: float) -> None:
        self._random = random.Random(seed)
        self._attempts: dict[tuple[str, str], int] = {}
        self._config = config
        self._loaded_at_s = now_s

    def replace(self, config: FaultsConfig, now_s: float) -> None:
        """Put another schedule and other rates in force; the schedule's seconds count from `now_s`."""
        self._config = config
        self._loaded_at_s = now_s

    def pick(self, prompt: str, now_s: float) -> FaultPlan:
        """The faults of this attempt; a `FaultsError` for a marker with an impossible value."""
        if "[[" in prompt:
            marked = self._marked(prompt)
            if marked:
                return _plan(marked)
        if not self._config.schedule and not self._config.rate:
            return NO_FAULT
        fault = self._scheduled(now_s - self._loaded_at_s) or self._drawn()
        return _plan([fault]) if fault is not None else NO_FAULT

    def _marked(self, prompt: str) -> list[Fault]:
        faults = [_checked(match) for match in _MARKER.finditer(prompt) if match[1] in _CHECKS]
        active: list[Fault] = []
        ended = False
        for fault in faults:
            if ended and fault.name not in _MODIFIERS:
                continue
            if fault.times is not None:
                key = (prompt, fault.spec)
                attempts = self._attempts.get(key, 0)
                if attempts >= fault.times:
                    continue
                self._attempts[key] = attempts + 1
            active.append(fault)
            ended = ended or fault.name not in _MODIFIERS
        return active

    def _scheduled(self, elapsed_s: float) -> Fault | None:
        for entry in self._config.schedule:
            if entry.from_s <= elapsed_s < entry.to_s:
                return entry.fault
        return None

    def _drawn(self) -> Fault | None:
        if not self._config.rate:
            return None
        draw = self._random.random()
        for fault, share in self._config.rate:
            if draw < share:
                return fault
            draw -= share
        return None


def _plan(faults: list[Fault]) -> FaultPlan:
    by_name = {fault.name: fault for fault in reversed(faults)}
    slow = by_name.get("slow")
    usage = by_name.get("usage")
    return FaultPlan(
        latency_s=float(slow.value) if slow is not None else None,
        usage=usage.value if usage is not None else None,
        without_usage="no-usage" in by_name,
        ending=next((fault for fault in faults if fault.name not in _MODIFIERS), None),
        label=" ".join(fault.spec for fault in faults),
    )


def _checked(match: re.Match[str]) -> Fault:
    """The fault that `match` spells, its value checked."""
    name, value, times = match[1], match[2] or "", match[3]
    check = _CHECKS.get(name)
    if check is None:
        raise FaultsError(f"{name!r} is no fault; there are {', '.join(sorted(_CHECKS))}")
    complaint = check(value)
    if complaint is not None:
        raise FaultsError(f"{name}: {complaint}, not {value!r}")
    return Fault(name, value, int(times) if times is not None else None)


def _check_status(value: str) -> str | None:
    good = value == QUOTA or (value.isascii() and value.isdigit() and 400 <= int(value[:4]) <= 599)
    return None if good else "must be a status from 400 to 599 or quota"


def _check_seconds(value: str) -> str | None:
    try:
        good = 0 <= float(value) < math.inf
    except ValueError:
        good = False
    return None if good else "must be a number of seconds, 0 or more"


def _check_present(value: str) -> str | None:
    return None if value else "needs a value"


def _check_header(value: str) -> str | None:
    good = value.isascii() and (value.isprintable() or not value)
    return None if good else "must be printable ASCII"


def _check_absent(value: str) -> str | None:
    return "takes no value" if value else None


_CHECKS: Mapping[str, Callable[[str], str | None]] = {
    "fail": _check_status,
    "retry-after": _check_header,
    "slow": _check_seconds,
    "usage": _check_present,
    "no-usage": _check_absent,
    "hang": _check_absent,
    "reset": _check_absent,
    "garbage": _check_absent,
    "cut": _check_absent,
    "huge": _check_absent,
    "gzip-bomb": _check_absent,
    "drip": _check_absent,
    "redirect": _check_absent,
}

_MODIFIERS = frozenset({"slow", "usage", "no-usage"})


def _mapping(value: object, place: str, known: set[str]) -> dict[str, object]:
    if not isinstance(value, dict):
        raise FaultsError(f"{place} must be a mapping with {' and '.join(sorted(known))}")
    for key in value:
        if key not in known:
            raise FaultsError(f"{place}: unknown key {key!r}; there are {', '.join(sorted(known))}")
    return value


def _rates(section: object) -> tuple[tuple[Fault, float], ...]:
    if section is None:
        return ()
    if not isinstance(section, dict):
        raise FaultsError("rate must be a mapping of faults to shares, like {500: 0.05, reset: 0.01}")
    rates: list[tuple[Fault, float]] = []
    for key, share in section.items():
        place = f"rate.{key}"
        fault = _fault_from_file(f"fail:{key}" if str(key).isdigit() else key, place)
        if isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share <= 1:
            raise FaultsError(f"{place}: the share of requests must be a number from 0 to 1, not {share!r}")
        rates.append((fault, float(share)))
    total = sum(share for _, share in rates)
    if total > 1 + 1e-9:
        raise FaultsError(f"rate: the shares add up to {total:g}; together they cannot pass 1")
    return tuple(rates)


def _schedule(section: object) -> tuple[Scheduled, ...]:
    if section is None:
        return ()
    if not isinstance(section, list):
        raise FaultsError("schedule must be a list of {from_s, to_s, fault}")
    entries: list[Scheduled] = []
    for index, item in enumerate(section):
        place = f"schedule[{index}]"
        fields = _mapping(item, place, {"from_s", "to_s", "fault"})
        from_s = _seconds(fields.get("from_s"), f"{place}.from_s")
        to_s = _seconds(fields.get("to_s"), f"{place}.to_s")
        if to_s <= from_s:
            raise FaultsError(f"{place}: to_s ({to_s:g}) must be after from_s ({from_s:g})")
        entries.append(Scheduled(from_s, to_s, _fault_from_file(fields.get("fault"), f"{place}.fault")))
    return tuple(entries)


def _seconds(value: object, place: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not value >= 0:
        raise FaultsError(f"{place} must be a number of seconds, 0 or more, not {value!r}")
    return float(value)


def _fault_from_file(spec: object, place: str) -> Fault:
    if not isinstance(spec, str):
        raise FaultsError(f"{place} must be a fault like fail:503, not {spec!r}")
    try:
        fault = parse_fault(spec)
    except FaultsError as error:
        raise FaultsError(f"{place}: {error}") from None
    if fault.times is not None:
        raise FaultsError(f"{place}: a number of attempts (x{fault.times}) has a meaning only in a prompt")
    return fault
