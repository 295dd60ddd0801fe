"""The life of one chat call inside the provider: admit, charge, take its time, answer, or misbehave."""

import hmac
import random
from collections import Counter
from collections.abc import Callable

from starlette.types import Receive, Scope, Send

from simulator.answers import Usage, completion_body, piece_count, stream_events, usage_of, write_answers
from simulator.connection import ClientGoneError, connection_of
from simulator.errors import ApiError, FaultsError
from simulator.exchange import EVENT_STREAM, JSON, Exchange, read_body
from simulator.faults import FaultInjector, FaultPlan, FaultsConfig
from simulator.log import LogEntry, RequestLog
from simulator.meter import Meter
from simulator.misbehave import Reply, Sleep, failure, hang, misbehave, refusal
from simulator.request import ChatRequest, parse_request
from simulator.settings import Accounting, SimulatorSettings

Clock = Callable[[], float]


class Provider:
    """One provider account: its limits, its log, its faults, and how it serves a call.

    `clock` gives Unix seconds and `sleep` waits for seconds; all that takes time goes through them.
    """

    def __init__(self, settings: SimulatorSettings, faults: FaultsConfig, clock: Clock, sleep: Sleep) -> None:
        now_s = clock()
        self.meter = Meter(settings, now_s)
        self.log = RequestLog(settings.log_entries)
        self.faults = FaultInjector(faults, seed=settings.seed, now_s=now_s)
        self.statuses: Counter[str] = Counter()
        self.in_flight = 0
        self._settings = settings
        self._clock = clock
        self._sleep = sleep
        self._latency = random.Random(settings.seed)

    async def chat(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one chat request, and close its log entry however it ends."""
        raw = await read_body(receive)
        if raw is None:
            return
        entry = self.log.begin(self._clock())
        connection = connection_of(scope)
        exchange = Exchange(send, connection, entry)
        self.in_flight += 1
        try:
            with connection.guard():
                await self._answer(scope, raw, exchange)
        except ClientGoneError:
            entry.client_gone = not connection.ended_by_us
            self.meter.complete(entry, self._clock())
        finally:
            self.in_flight -= 1
            self.statuses[str(entry.status or "none")] += 1
            entry.finished_at = self._clock()

    def authorize(self, scope: Scope) -> None:
        """An `ApiError` with status 401 if a key is required and `scope` carries another, or none."""
        key = self._settings.api_key
        if key is None:
            return
        given = dict(scope["headers"]).get(b"authorization")
        if given is None:
            raise ApiError(401, "You didn't provide an API key.")
        if not hmac.compare_digest(given, f"Bearer {key}".encode()):
            raise ApiError(401, "Incorrect API key provided.", code="invalid_api_key")

    async def _answer(self, scope: Scope, raw: bytes, exchange: Exchange) -> None:
        entry = exchange.entry
        try:
            request = self._admit(scope, raw, entry)
            plan = self._pick_faults(request, entry)
            self.meter.arrive(entry, request, entry.arrived_at)
            await self._serve(request, plan, exchange)
        except ApiError as error:
            headers = [*self.meter.headers(self._clock()), *error.headers]
            await exchange.whole(error.status, JSON, headers, error.body())

    def _admit(self, scope: Scope, raw: bytes, entry: LogEntry) -> ChatRequest:
        """The request if it is valid and the limits have room for it; an `ApiError` if not."""
        self.authorize(scope)
        try:
            request = parse_request(raw)
        except ApiError:
            self.meter.count_request("", entry.arrived_at)
            raise
        entry.describe(request)
        self.meter.count_request(request.model, entry.arrived_at)
        models = self._settings.models
        if models and request.model not in models:
            message = f"The model `{request.model}` does not exist or you do not have access to it."
            raise ApiError(404, message, code="model_not_found")
        self.meter.check_tokens(request, entry.arrived_at)
        return request

    def _pick_faults(self, request: ChatRequest, entry: LogEntry) -> FaultPlan:
        """The faults of this attempt; an `ApiError` if they refuse it outright."""
        try:
            plan = self.faults.pick(request.prompt, entry.arrived_at)
        except FaultsError as error:
            raise ApiError(400, f"A fault marker in the prompt is wrong: {error}", param="messages") from None
        entry.fault = plan.label
        if plan.ending is not None and (refused := refusal(plan.ending)) is not None:
            raise refused
        return plan

    async def _serve(self, request: ChatRequest, plan: FaultPlan, exchange: Exchange) -> None:
        """Take the call's time, then answer, or do what the plan says instead."""
        latency_s = plan.latency_s if plan.latency_s is not None else self._draw_latency_s()
        ending = plan.ending
        if ending is not None and (failed := failure(ending)) is not None:
            await self._sleep(latency_s)
            raise failed
        answers = write_answers(
            request,
            seed=self._settings.seed,
            mean_tokens=self._settings.answer_tokens,
            most_tokens=self._settings.max_output_tokens,
        )
        made = sum(answer.tokens for answer in answers)
        exchange.entry.completion_tokens = made
        usage = None if plan.without_usage else usage_of(request.prompt_tokens, made, plan.usage)
        if ending is not None and ending.name == "hang":
            await hang()
        if request.stream:
            events = stream_events(
                request, answers, usage, exchange.entry.request_id, exchange.entry.arrived_at
            )
            if ending is None:
                await self._stream(events, made, latency_s, exchange)
                _note_usage(exchange.entry, usage if request.include_usage else None)
                return
            body, content_type = b"".join(events), EVENT_STREAM
        else:
            body = completion_body(
                request, answers, usage, exchange.entry.request_id, exchange.entry.arrived_at
            )
            content_type = JSON
        await self._make(made, latency_s, exchange.entry)
        headers = self.meter.headers(self._clock())
        if ending is not None:
            await misbehave(ending, exchange, Reply(body, content_type, headers), self._sleep)
            return
        _note_usage(exchange.entry, usage)
        await exchange.whole(200, content_type, headers, body)

    async def _make(self, tokens: int, latency_s: float, entry: LogEntry) -> None:
        """Take `latency_s` to make `tokens`, and charge them as the accounting says."""
        pieces = piece_count(tokens) if self.meter.accounting is Accounting.ANTHROPIC else 1
        for step in range(pieces):
            if latency_s > 0:
                await self._sleep(latency_s / pieces)
            self.meter.produce(entry, _share(tokens, step, pieces), self._clock())
        self.meter.complete(entry, self._clock())

    async def _stream(self, events: list[bytes], tokens: int, latency_s: float, exchange: Exchange) -> None:
        """Send `events`, all but the last spread evenly over `latency_s`."""
        await exchange.begin(200, EVENT_STREAM, self.meter.headers(self._clock()))
        pieces = len(events) - 1
        for step in range(pieces):
            if latency_s > 0:
                await self._sleep(latency_s / pieces)
            self.meter.produce(exchange.entry, _share(tokens, step, pieces), self._clock())
            await exchange.part(events[step])
        self.meter.complete(exchange.entry, self._clock())
        await exchange.end(events[-1])

    def _draw_latency_s(self) -> float:
        settings = self._settings
        if not settings.latency_jitter_s:
            return settings.latency_s
        jitter_s = settings.latency_jitter_s * (2 * self._latency.random() - 1)
        return max(0.0, settings.latency_s + jitter_s)


def _share(tokens: int, step: int, steps: int) -> int:
    """The tokens of one of `steps` nearly equal parts; all of them add up to `tokens`."""
    return tokens * (step + 1) // steps - tokens * step // steps


def _note_usage(entry: LogEntry, usage: Usage | None) -> None:
    entry.reported_tokens = usage.total_tokens if usage is not None else None
