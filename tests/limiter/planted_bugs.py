"""Bugs that a limiter can have, and which of its tests must find each.

A bug is a replacement in the text of one of the scripts' fragments. That text must be there exactly once: where the
scripts have changed, plant the bug anew.
"""

from dataclasses import dataclass

from redis.exceptions import ResponseError

from tests.limiter import budget_behaviour as budget
from tests.limiter import mirror_behaviour as mirror
from tests.limiter import rate_behaviour as rate
from tests.limiter import reserve_behaviour as reserve
from tests.limiter import settlement_behaviour as settlement
from tests.limiter import window_behaviour as window
from tests.limiter.budget_machine import BudgetMachine
from tests.limiter.machine import LimiterMachine
from tests.limiter.rate_machine import RateMachine
from tests.limiter.rig import Check
from tests.limiter.window_machine import MirrorWindowMachine, WindowMachine


@dataclass(frozen=True, slots=True)
class Bug:
    """`text` becomes `planted`; what must then fail: behaviours, and machines."""

    name: str
    text: str
    planted: str
    checks: tuple[Check, ...]
    machines: tuple[type[LimiterMachine], ...] = ()
    raises: type[Exception] = AssertionError


BUGS = (
    Bug(
        "one request more than the limit is let through",
        "limits.limit and view.remaining == 0",
        "limits.limit and redis.call('LLEN', rate.key(user)) > limits.limit",
        (rate.twenty_quick_requests_pass_and_the_next_is_blocked, rate.no_edge_lets_twice_the_limit_through),
        (RateMachine,),
    ),
    Bug(
        "asking lengthens a block",
        "if view.blocked > 0 then return false, math.max(day_wait, view.blocked - now), view end",
        "if view.blocked > 0 then block_user(user, now + math.max(60000, limits.block), now) "
        "return false, math.max(day_wait, view.blocked - now), view end",
        (rate.asking_does_not_lengthen_a_block,),
        (RateMachine,),
    ),
    Bug(
        "a short block forgets what was counted before it",
        "      view.blocked = math.max(now + limits.block, room)\n",
        "      view.blocked = now + limits.block\n      redis.call('DEL', rate.key(user))\n",
        (rate.a_block_shorter_than_the_window_lasts_until_there_is_room,),
        (RateMachine,),
    ),
    Bug(
        "a request is kept one ms longer than the window",
        "redis.call('LINDEX', key, int(-places))) <= start",
        "redis.call('LINDEX', key, int(-places))) < start",
        (rate.a_request_leaves_after_exactly_the_window,),
        (RateMachine,),
    ),
    Bug(
        "of many that have left the window some still count",
        "  while step > 1 do\n    step = step / 2\n",
        "  while false do\n",
        (rate.many_leave_at_once,),
        (RateMachine,),
    ),
    Bug(
        "what has left the window is kept",
        "redis.call('LTRIM', key, 0, int(-view.gone - 1))",
        "redis.call('LLEN', key)",
        (rate.many_leave_at_once,),
    ),
    Bug(
        "the window of requests is a fixed minute",
        "gone_by(now - limits.window, key, count)",
        "gone_by(now - now % limits.window - 1, key, count)",
        (rate.no_edge_lets_twice_the_limit_through,),
        (RateMachine,),
    ),
    Bug(
        "a block's life is rounded down to seconds",
        "int(until_ms), 'PX', int(until_ms - now))",
        "int(until_ms), 'EX', int(math.floor((until_ms - now) / 1000)))",
        (rate.everything_kept_expires_and_not_too_early,),
    ),
    Bug(
        "what a refused request was told to wait leaves out the day's limit",
        "return false, math.max(day_wait, room - now), view",
        "return false, room - now, view",
        (rate.the_longer_of_two_waits_is_told,),
        (RateMachine,),
    ),
    Bug(
        "a block outlives a clock that was set back",
        "return math.min(stored, now + math.max(limits.block, limits.window)), stored",
        "return stored, stored",
        (rate.a_clock_set_back_lengthens_no_block,),
        (RateMachine,),
    ),
    Bug(
        "requests outlive a clock that was set back",
        "while newest and tonumber(newest) > now do",
        "while false do",
        (rate.a_clock_set_back_keeps_no_request_longer_than_a_window,),
        (RateMachine,),
    ),
    Bug(
        "a hold is settled twice",
        "  if not held then return nil end\n",
        "  held = held or 0\n",
        (budget.settling_twice_charges_once, budget.a_settle_after_a_release_changes_nothing),
        (BudgetMachine,),
    ),
    Bug(
        "a hold stays after its settle",
        "  redis.call('HDEL', holds, job)\n",
        "",
        (budget.settling_twice_charges_once, budget.nothing_but_the_count_remains_at_rest),
        (BudgetMachine,),
    ),
    Bug(
        "holding twice holds twice",
        "if redis.call('HSETNX', holds, job, int(estimate)) == 0 then return end",
        "redis.call('HSET', holds, job, int(estimate))",
        (budget.a_retry_keeps_its_hold,),
        (BudgetMachine,),
    ),
    Bug(
        "the check of the budget leaves out what is held",
        "return (number(redis.call('GET', budget.key(user, day))) or 0) + estimate <= limit",
        "return (number(redis.call('GET', budget.key(user, day))) or 0)"
        " - (number(redis.call('HGET', budget.holds_key(user, day), '*')) or 0) + estimate <= limit",
        (budget.the_limit_is_reached_to_the_token,),
        (BudgetMachine,),
    ),
    Bug(
        "one token of the budget is never given",
        "or 0) + estimate <= limit",
        "or 0) + estimate < limit",
        (budget.the_limit_is_reached_to_the_token,),
        (BudgetMachine,),
    ),
    Bug(
        "a settle charges the day it is on",
        "local held = budget.settle(ARGV[2], ARGV[3], ARGV[4], input + output)",
        "local held = budget.settle(ARGV[2], day_of(now), ARGV[4], input + output)",
        (budget.a_job_held_before_midnight_settles_on_that_day,),
        (BudgetMachine,),
    ),
    Bug(
        "a settle moves the charge to the day it is on",
        "  if redis.call('EXISTS', key) == 1 then redis.call('INCRBY', key, int(actual - held)) end\n",
        "  if redis.call('EXISTS', key) == 1 then redis.call('INCRBY', key, int(-held)) end\n"
        "  redis.call('INCRBY', budget.key(user, day_of(clock(ARGV[1]))), int(actual))\n",
        (budget.a_job_held_before_midnight_settles_on_that_day,),
        (BudgetMachine,),
    ),
    Bug(
        "a repeated reservation answers the day it is on",
        "receipt.note(job) or day",
        "day",
        (budget.a_reservation_repeated_after_midnight_answers_the_day_it_has,),
        (BudgetMachine,),
    ),
    Bug(
        "an expired day is made again",
        "if redis.call('EXISTS', key) == 1 then redis.call('INCRBY', key, int(actual - held)) end",
        "redis.call('INCRBY', key, int(actual - held))",
        (budget.a_counter_that_is_gone_is_not_made_again,),
    ),
    Bug(
        "a life is rounded down to seconds",
        "redis.call('PEXPIRE', key, int(math.max(1, at - now)))",
        "redis.call('EXPIRE', key, int(math.max(1, math.floor((at - now) / 1000))))",
        (budget.a_day_is_kept_two_days_after_its_end,),
        (BudgetMachine,),
    ),
    Bug(
        "a life in seconds is taken for one in ms",
        "int(math.max(1, at - now))",
        "int(math.max(1, math.floor((at - now) / 1000)))",
        (budget.a_day_is_kept_two_days_after_its_end,),
        (BudgetMachine,),
    ),
    Bug(
        "a life is shortened",
        "if left == -1 or (left >= 0 and left < at - now) then",
        "if left ~= -2 then",
        (budget.a_life_is_never_shortened,),
        (BudgetMachine,),
    ),
    Bug(
        "the sum of holds is not kept",
        "local first = redis.call('HINCRBY', holds, '*', int(estimate)) == estimate",
        "local first = true",
        (budget.holding_twice_holds_once,),
        (BudgetMachine,),
    ),
    Bug(
        "a hold of nothing cannot be settled",
        "local function int(n) return math.floor(n + 0.5) end",
        "local function int(n) return string.format('%.0f', n) end",
        (budget.holds_of_nothing_settle_like_others,),
        raises=ResponseError,
    ),
    Bug(
        "a slice is dropped one too early",
        "local keep_from = math.floor((w.now - w.span) / SLICE)",
        "local keep_from = math.floor((w.now - w.span) / SLICE) + 1",
        (
            window.tokens_of_the_last_moment_of_a_slice_leave_with_its_end,
            window.no_edge_lets_more_than_the_limit_through,
        ),
        (WindowMachine,),
    ),
    Bug(
        "the margin is left out",
        "if w.mode == 'strict' then advance(w) end",
        "if w.mode == 'strict' then w.span = MINUTE advance(w) end",
        (window.the_margin_lengthens_the_minute, window.no_edge_lets_more_than_the_limit_through),
        (WindowMachine,),
    ),
    Bug(
        "what is in flight does not count",
        "w.T + w.F + tokens - w.limit)",
        "w.T + tokens - w.limit)",
        (settlement.what_is_in_flight_counts_in_full,),
        (WindowMachine,),
    ),
    Bug(
        "one token of the window is never given",
        "    if excess <= 0 then return 0 end\n    local wait",
        "    if excess < 0 then return 0 end\n    local wait",
        (window.the_limit_is_reached_to_the_token,),
        (WindowMachine,),
    ),
    Bug(
        "one request more than the limit passes the window",
        "w.known.less_requests + 1 - w.requests",
        "w.known.less_requests - w.requests",
        (window.requests_are_limited_like_tokens,),
        (WindowMachine,),
    ),
    Bug(
        "a wait is told to the slice's beginning",
        "return math.max(1, (w.oldest + i + 1) * SLICE + w.span - w.now)",
        "return math.max(1, (w.oldest + i) * SLICE + w.span - w.now)",
        (window.waits_are_exact_whatever_must_leave,),
        (WindowMachine,),
    ),
    Bug(
        "a wait is the whole window",
        "return math.max(1, (w.oldest + i + 1) * SLICE + w.span - w.now)",
        "return w.span",
        (window.waits_are_exact_whatever_must_leave,),
        (WindowMachine,),
    ),
    Bug(
        "only one of two waits is told",
        "return reason, for_tokens and for_request and math.max(for_tokens, for_request)",
        "return reason, for_tokens ~= 0 and for_tokens or for_request",
        (window.the_longer_of_two_waits_is_told,),
        (WindowMachine,),
    ),
    Bug(
        "a settle or release forgets the model's window",
        "  for _, taken in ipairs(written.w) do\n",
        "  for _, taken in ipairs({written.w[1]}) do\n",
        (settlement.a_release_frees_provider_and_model,),
        (WindowMachine,),
    ),
    Bug(
        "the model's window is not asked",
        "    if why then\n",
        "    if why and scope == spec.scopes[1] then\n",
        (
            window.provider_and_model_take_all_or_nothing,
            reserve.a_full_last_window_leaves_budget_and_provider_as_they_were,
        ),
        (WindowMachine,),
    ),
    Bug(
        "the budget is held before the windows are asked",
        "local reason, wait = window.refusal(spec, now, input + output)\n",
        "budget.hold(user, day, job, input + output, latest_end, now)\n"
        "local reason, wait = window.refusal(spec, now, input + output)\n",
        (
            reserve.each_of_them_can_refuse_and_then_none_has_taken_anything,
            reserve.a_full_last_window_leaves_budget_and_provider_as_they_were,
        ),
        (WindowMachine,),
    ),
    Bug(
        "tokens_back gives the request back, too",
        "window.charge(w, slice, -charged, 0)",
        "window.charge(w, slice, -charged, -1)",
        (settlement.each_accounting_holds_and_settles_in_its_way,),
        (WindowMachine, MirrorWindowMachine),
    ),
    Bug(
        "given_back keeps the request",
        "window.charge(w, slice, -charged, -1)",
        "window.charge(w, slice, -charged, 0)",
        (settlement.each_accounting_holds_and_settles_in_its_way,),
        (WindowMachine, MirrorWindowMachine),
    ),
    Bug(
        "a late return goes to the present window",
        "window.charge(w, slice, -charged, -1)",
        "window.charge(w, current, -charged, -1)",
        (
            settlement.a_late_return_touches_no_newer_window,
            settlement.a_return_goes_to_the_slice_it_was_taken_from,
        ),
        (WindowMachine,),
    ),
    Bug(
        "a return is taken from a slice that has left",
        "  if slice < w.oldest then return window.save(w) end\n",
        "  slice = math.max(slice, w.oldest)\n",
        (settlement.a_late_return_touches_no_newer_window,),
        (WindowMachine,),
    ),
    Bug(
        "a receipt can be settled twice",
        "  redis.call('HDEL', RECEIPTS, id)\n",
        "",
        (settlement.a_receipt_is_settled_once,),
        (WindowMachine,),
    ),
    Bug(
        "reserving twice takes twice",
        "if redis.call('HEXISTS', RECEIPTS, job) == 1 then return",
        "redis.call('HDEL', RECEIPTS, job) if false then return",
        (settlement.reserving_twice_takes_once,),
        (WindowMachine, MirrorWindowMachine),
    ),
    Bug(
        "a settle leaves its tokens in flight",
        "w.F, w.V = math.max(0, w.F - flying)",
        "w.F, w.V = math.max(0, w.F)",
        (
            settlement.each_accounting_holds_and_settles_in_its_way,
            settlement.what_is_in_flight_counts_in_full,
        ),
        (WindowMachine, MirrorWindowMachine),
    ),
    Bug(
        "actual tokens are charged to the slice of the reservation",
        "window.charge(w, current, late, 0)",
        "window.charge(w, slice, late, 0)",
        (settlement.what_is_charged_at_the_settle_leaves_a_window_after_it,),
        (WindowMachine,),
    ),
    Bug(
        "an unknown outcome is forgotten at its deadline",
        "if not receipt.settle(now, id, 'kept') then",
        "if not receipt.settle(now, id, 'tokens_back') then",
        (settlement.an_unknown_outcome_is_charged_when_its_call_has_ended,),
        (WindowMachine,),
    ),
    Bug(
        "an unknown outcome is charged before its call has ended",
        "'-inf', int(now), 'LIMIT', 0, most)",
        "'-inf', int(now + 60000), 'LIMIT', 0, most)",
        (settlement.an_unknown_outcome_is_charged_when_its_call_has_ended,),
        (WindowMachine,),
    ),
    Bug(
        "long idle slices stay in the sum",
        "    w.T, w.R = w.T - w.t, w.R - w.r\n",
        "",
        (window.an_idle_window_is_free_and_empty,),
        (WindowMachine,),
    ),
    Bug(
        "a window's time stands still after a clock was set back",
        "  if set_back then window.save(w) end\n",
        "",
        (
            window.a_clock_set_back_neither_frees_nor_locks_the_window,
            mirror.a_clock_set_back_refills_nothing_and_stops_nothing,
        ),
        (WindowMachine, MirrorWindowMachine),
    ),
    Bug(
        "a window's time runs backwards with the clock",
        "local skew = set_back and last - now or v[2]",
        "local skew = v[2]",
        (window.what_is_taken_after_the_clock_was_set_back_counts,),
        (WindowMachine,),
    ),
    Bug(
        "the limits of an older receipt bind a whole script",
        "  w.span, w.mode, w.limit, w.requests, w.known = spec.span, spec.mode, known.tokens, known.requests, known\n",
        "  w.span, w.mode = w.span or spec.span, w.mode or spec.mode\n"
        "  w.limit, w.requests, w.known = w.limit or known.tokens, w.requests or known.requests, known\n",
        (window.a_limit_lowered_meanwhile_binds_the_script_that_sweeps,),
    ),
    Bug(
        "a bucket refills at twice its rate",
        "math.floor((at - last) * per_minute * 1000 / MINUTE)",
        "math.floor((at - last) * per_minute * 2000 / MINUTE)",
        (
            mirror.a_bucket_is_full_at_first_and_refills_by_a_sixtieth_a_second,
            mirror.no_span_gives_more_than_the_bucket_and_its_refill,
        ),
        (MirrorWindowMachine,),
    ),
    Bug(
        "a bucket has no brim",
        "w.l, w.q = math.min(w.l, (w.limit or 0) * 1000), math.min(w.q, (w.requests or 0) * 1000)",
        "w.l, w.q = math.min(w.l, (w.limit or 0) * 9000), math.min(w.q, (w.requests or 0) * 9000)",
        (mirror.a_bucket_holds_no_more_than_its_limit, mirror.a_refund_does_not_overfill_the_bucket),
        (MirrorWindowMachine,),
    ),
    Bug(
        "what is in flight does not count in a bucket",
        "return until_refilled(w, w.l, w.F + tokens + spread, less, w.limit)",
        "return until_refilled(w, w.l, tokens + spread, less, w.limit)",
        (mirror.each_accounting_charges_when_its_provider_does,),
        (MirrorWindowMachine,),
    ),
    Bug(
        "a bucket is emptied to the last drop",
        "local kept = math.floor(per_minute * (w.span - MINUTE) * 1000 / MINUTE)",
        "local kept = 0",
        (mirror.what_the_margin_refills_is_left_in_the_bucket,),
        (MirrorWindowMachine,),
    ),
    Bug(
        "a job as large as the bucket never fits",
        "math.min(amount * 1000 + kept, per_minute * 1000)",
        "(amount * 1000 + kept)",
        (mirror.what_the_margin_refills_is_left_in_the_bucket,),
        (MirrorWindowMachine,),
    ),
)
