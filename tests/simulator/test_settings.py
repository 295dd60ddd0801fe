"""Settings that make no sense are refused by name."""

from collections.abc import Callable

import pytest

from simulator.errors import SettingsError
from simulator.settings import SimulatorSettings


@pytest.mark.parametrize(
    ("build", "name"),
    [
        (lambda: SimulatorSettings(port=70000), "port"),
        (lambda: SimulatorSettings(tpm=0), "tpm"),
        (lambda: SimulatorSettings(rpm=-1), "rpm"),
        (lambda: SimulatorSettings(latency_s=-1), "latency_s"),
        (lambda: SimulatorSettings(latency_s=float("nan")), "latency_s"),
        (lambda: SimulatorSettings(latency_jitter_s=float("inf")), "latency_jitter_s"),
        (lambda: SimulatorSettings(answer_tokens=0), "answer_tokens"),
        (lambda: SimulatorSettings(max_output_tokens=0), "max_output_tokens"),
        (lambda: SimulatorSettings(log_entries=0), "log_entries"),
    ],
)
def test_an_impossible_setting_is_named(build: Callable[[], SimulatorSettings], name: str) -> None:
    with pytest.raises(SettingsError, match=f"^{name} must be"):
        build()


def test_the_key_is_not_shown() -> None:
    assert "hush" not in repr(SimulatorSettings(api_key="hush"))
