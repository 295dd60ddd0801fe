"""What the state machines share: a rig on an emptied server for each example, how they run, a count of steps."""

from collections.abc import Mapping
from typing import ClassVar

from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test
from redis import Redis

from limiter.scripts import Script
from tests.limiter.rig import Rig

EXAMPLES = 10
"""Of one seed. After so many, Hypothesis begins to vary those it has had; other seeds give more that is new."""
LENGTH = 100
"""Steps of an example; a few end sooner."""


class LimiterMachine(RuleBasedStateMachine):
    """Runs the scripts beside a model. Subclasses call `step` in every rule."""

    client: ClassVar[Redis]
    instead: ClassVar[Mapping[str, Script]]
    steps: ClassVar[int]

    def __init__(self) -> None:
        super().__init__()
        self.client.flushall()
        self.rig = Rig(self.client, self.instead)

    def step(self) -> None:
        """Count one step: a rule that has been run, whatever the number of scripts it calls."""
        type(self).steps += 1


def run(
    machine: type[LimiterMachine], client: Redis, seeds: int, *, instead: Mapping[str, Script] | None = None
) -> int:
    """Run the examples of so many seeds, the same ones each time; the number of steps that were taken.

    Raises AssertionError for an example in which the scripts and the model differ. `instead` puts other scripts in
    the limiter's place (see Rig); what fails then is not made smaller.
    """
    fresh = type(machine.__name__, (machine,), {"client": client, "instead": instead or {}, "steps": 0})
    assert issubclass(fresh, LimiterMachine)
    for number in range(seeds):
        run_state_machine_as_test(
            seed(number)(fresh),
            settings=settings(
                max_examples=EXAMPLES,
                stateful_step_count=LENGTH,
                database=None,
                deadline=None,
                report_multiple_bugs=False,
                phases=(Phase.generate,) if instead else (Phase.generate, Phase.shrink),
                # Time on a machine that others use, too, says nothing.
                suppress_health_check=[HealthCheck.too_slow],
            ),
        )
    return fresh.steps
