"""`python -m tests.chaos.bugs`: runs the tests of this folder against processes with one known bug each.

Every bug must be caught by the test that is named with it. `make chaos-bugs` prints the list and the outcome.
"""

import asyncio
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, redirect_stdout
from dataclasses import dataclass, replace
from io import StringIO
from pathlib import Path
from typing import Final, TypeAlias

from tests.chaos import test_outage as out
from tests.chaos import test_pressure as prs
from tests.chaos import test_recovery as rec
from tests.chaos import test_storage as sto
from tests.chaos import test_webhooks as hok
from tests.chaos.system import Shape, Start, System, running_system

ChaosTest: TypeAlias = Callable[[Start], Awaitable[None]]

_TOLD = hok.test_no_end_without_its_webhook_and_no_webhook_before_its_end_can_be_seen

CAUGHT_BY: Final[dict[str, ChaosTest]] = {
    "sdk_retries": rec.test_every_request_that_a_provider_gets_is_an_attempt_of_ours,
    "no_recovery": rec.test_jobs_of_a_killed_worker_are_sent_again_by_another_soon,
    "no_fencing": rec.test_a_frozen_worker_that_wakes_changes_nothing,
    "heartbeat_of_a_hung_loop": rec.test_a_worker_whose_loop_hangs_loses_its_jobs_to_another,
    "no_drain": rec.test_a_worker_told_to_stop_finishes_what_it_can_and_hands_back_the_rest_unspent,
    "drain_spends_an_attempt": rec.test_a_worker_told_to_stop_finishes_what_it_can_and_hands_back_the_rest_unspent,
    "api_holds_on_to_who_waits": rec.test_processes_restarted_in_turn_show_clients_no_error_but_a_broken_connection,
    "full_server_refuses_settling": sto.test_a_full_valkey_accepts_nothing_and_lets_what_runs_be_settled,
    "readiness_writes_nothing": sto.test_a_full_disk_accepts_nothing_and_what_runs_is_settled_later,
    "clock_of_the_process_counts": prs.test_clocks_of_processes_that_are_an_hour_off_and_run_double_change_nothing,
    "settling_again_charges_again": out.test_a_settlement_whose_answer_was_lost_counts_once,
    "outcome_dropped_without_redis": out.test_while_valkey_is_away_nothing_is_accepted_and_what_was_paid_for_is_kept,
    "worker_exits_without_redis": out.test_while_valkey_is_away_nothing_is_accepted_and_what_was_paid_for_is_kept,
    "worker_dies_of_its_first_question": out.test_a_worker_starts_whatever_it_is_told_of_valkey_is_lost,
    "redis_errors_are_500": out.test_while_valkey_is_away_nothing_is_accepted_and_what_was_paid_for_is_kept,
    "outage_counts_as_death": out.test_an_outage_longer_than_a_lease_is_no_death_of_the_workers,
    "submitted_again_under_a_new_id": out.test_a_submission_whose_answer_was_lost_makes_one_job,
    "refused_submissions_stay": out.test_a_submission_that_is_refused_for_a_lost_answer_is_taken_back,
    "claim_numbered_anew": out.test_a_claim_whose_answer_was_lost_is_answered_again,
    "deaf_after_a_cut": out.test_whoever_waits_for_a_job_hears_of_its_end_through_cut_connections,
    "end_without_its_delivery": _TOLD,
    "delivery_of_a_dead_worker_forgotten": _TOLD,
    "webhook_built_anew": _TOLD,
    "webhook_id_of_each_attempt": _TOLD,
    "epoch_ignored": out.test_an_emptied_valkey_stops_everything_until_an_operator_decides,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Catch:
    """What a test said of a bug; `failure` None: it noticed nothing."""

    bug: str
    test: str
    failure: str | None
    took_s: float

    def __str__(self) -> str:
        how = f"MISSED by {self.test}" if self.failure is None else f"caught by {self.test}: {self.failure}"
        return f"{self.bug:36} {self.took_s:4.0f} s  {how}"


async def hunt(bug: str, folder: Path, *, alone: bool = False) -> Catch:
    """Run the test that is to catch the bug. Raises NotReadyError if nothing could be tested.

    `alone`: with one API and one worker, which start sooner and are enough for most.
    """
    test = CAUGHT_BY[bug]

    def start(shape: Shape) -> AbstractAsyncContextManager[System]:
        fewer = replace(shape, apis=1, workers=1) if alone else shape
        return running_system(folder, replace(fewer, bug=bug))

    began, failure = time.monotonic(), None
    with redirect_stdout(StringIO()):
        try:
            await test(start)
        except (AssertionError, TimeoutError) as error:
            failure = " ".join((str(error) or type(error).__name__).split())[:100]
    return Catch(bug, getattr(test, "__name__", ""), failure, time.monotonic() - began)


def main() -> None:
    """Prints a line for each bug (or those named), and exits with 1 if one was missed."""
    missed = 0
    for bug in sys.argv[1:] or CAUGHT_BY:
        folder = Path(tempfile.mkdtemp(prefix="penstock-bug-"))
        catch = asyncio.run(hunt(bug, folder / "system"))
        print(catch, flush=True)  # noqa: T201  (a program's output)
        missed += catch.failure is None
    print(f"{len(sys.argv[1:] or CAUGHT_BY) - missed} bugs caught, {missed} missed")  # noqa: T201  (as above)
    sys.exit(missed > 0)


if __name__ == "__main__":
    main()
