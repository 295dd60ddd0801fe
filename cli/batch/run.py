"""A batch under way: some tasks submit line after line, one follows the jobs, one saves what is known.

Following costs the service little, however many jobs there are: the oldest is waited for in a held request, and when
that returns, it may be time for some pages of the job list, which tell of all others: so often that a page tells of
about one end.
"""

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import BinaryIO, TypeVar

import httpx2
from pydantic import BaseModel, JsonValue, ValidationError
from ulid import ULID

from cli.batch.api import Api, Clock
from cli.batch.journal import Journal, Sums, Waiting
from cli.batch.lines import Defaults, LineError, Request, read_raw, read_request
from cli.batch.output import Output, gone_line, job_line, refused_line
from cli.client import LONGEST_WAIT_S
from cli.errors import CommandError
from cli.wire import Job, JobList

SUBMITTERS = 8
"""Submissions under way at once."""
EXPIRES_AFTER_S = 604_800
"""The longest there is: a job waits as long as the limits of a week make it wait, and so long its key is known."""
PAGE_JOBS = 100
"""The most that the job list tells at once."""
ROUND_S = 1.0
"""The service is asked no more often than that, however fast jobs end."""
CALM_S = 30.0
"""The list is looked at no less often than that, however slowly they do."""
SAVE_S = 0.5


Parsed = TypeVar("Parsed", bound=BaseModel)


class UnknownModelError(CommandError):
    """The model of --model, or its default, is none that the service has."""


@dataclass(frozen=True, slots=True)
class Options:
    """What is asked for with each line. `run` names the run: another one submits the same lines anew."""

    defaults: Defaults
    priority: str
    on_budget: str
    in_flight: int
    run: str = ""


class Run:
    """One run; `sums` is how far it is."""

    def __init__(
        self,
        source: BinaryIO,
        journal: Journal,
        output: Output,
        api: Api,
        options: Options,
        *,
        clock: Clock,
    ) -> None:
        self._source, self._journal, self._output = source, journal, output
        self._api, self._options, self._clock = api, options, clock
        self.sums: Sums = journal.sums()
        self._jobs = journal.jobs()
        self._waiting = journal.waiting()
        self._submitting = 0
        self._all_submitted = False
        self._changed = asyncio.Event()

    @property
    def unfinished_jobs(self) -> int:
        """Jobs at the service whose end is not known here."""
        return len(self._jobs)

    async def carry_out(self, show: Callable[[], None]) -> None:
        """Returns when every line has come to its end and is in the output; `show` is called now and then.

        Raises CommandError; may be cancelled.
        """
        try:
            async with asyncio.TaskGroup() as tasks:
                saving = tasks.create_task(self._save_for_ever(show))
                following = tasks.create_task(self._follow())
                async with asyncio.TaskGroup() as submitters:
                    for _ in range(SUBMITTERS):
                        submitters.create_task(self._submit_all())
                self._all_submitted = True
                self._changed.set()
                await following
                saving.cancel()
        except BaseExceptionGroup as errors:
            raise _only_one(errors) from None
        finally:
            self._output.grow()
            self._output.replace()
            show()

    async def _submit_all(self) -> None:
        """Line after line, as long as there are any."""
        while True:
            while len(self._jobs) + self._submitting >= self._options.in_flight:
                self._changed.clear()
                await self._changed.wait()
            line = next(self._waiting, None)
            if line is None:
                return
            self._submitting += 1
            try:
                await self._submit(line)
            finally:
                self._submitting -= 1
            self._changed.set()

    async def _submit(self, line: Waiting) -> None:
        options = self._options
        try:
            request = read_request(read_raw(self._source, line.number, line.at), options.defaults)
        except LineError as error:
            raise CommandError(f"the input was changed: line {line.number} {error}") from None
        body: dict[str, JsonValue] = {
            "body": request.body,
            "custom_id": request.custom_id,
            "priority": options.priority,
            "on_budget": options.on_budget,
            "expires_after": EXPIRES_AFTER_S,
        }
        if request.metadata is not None:
            body["metadata"] = request.metadata
        run = f"{options.run} {options.priority} {options.on_budget}"
        key = request.idempotency_key(line.number, line.tries, run)
        answer = await self._api.submit(body, key)
        if answer.is_success:
            job = _job(answer)
            self._journal.submitted(line.number, job.id)
            self._jobs[job.id] = line.number
            # What was submitted before a crash may have ended since.
            self._take(job)
        else:
            self._refused(line, request, answer)

    def _refused(self, line: Waiting, request: Request, answer: httpx2.Response) -> None:
        try:
            problem = json.loads(answer.content)
        except ValueError:
            problem = None
        if not isinstance(problem, dict) or "code" not in problem:
            raise CommandError(
                f"{self._api.url} answered {answer.status_code}; is that a Penstock? See PENSTOCK_URL"
            )
        if problem["code"] == "unknown_model" and request.model_is_default:
            raise UnknownModelError(f"{problem.get('detail')} Choose another with --model")
        told = refused_line(
            line.number,
            request.custom_id,
            answer.status_code,
            answer.headers.get("x-request-id"),
            problem,
        )
        self._journal.ended(line.number, "failed", told)
        self.sums.failed += 1

    async def _follow(self) -> None:
        """Round after round until no job is left and none will come."""
        pause_s = ROUND_S
        look_at_s = self._clock.now_s() + pause_s
        while self._jobs or not self._all_submitted:
            if not self._jobs:
                self._changed.clear()
                await self._changed.wait()
                continue
            began_s, ended_before = self._clock.now_s(), self.sums.ended
            wait_s = min(LONGEST_WAIT_S, max(1, round(look_at_s - began_s)))
            await self._look_at(min(self._jobs), wait_s=wait_s)
            if self._clock.now_s() >= look_at_s:
                told_before = self.sums.ended
                pages = await self._look_at_all()
                # As often as makes a page tell of one end: seldom where few end, at once where many do.
                news = max(self.sums.ended - told_before, pages / 2)
                pause_s = min(CALM_S, max(ROUND_S, pause_s * pages / news if pages else CALM_S))
                look_at_s = self._clock.now_s() + pause_s
            if self.sums.ended > ended_before:
                self._api.made_room()
            self._changed.set()
            if self._jobs or not self._all_submitted:
                await self._clock.sleep(max(0.0, ROUND_S - (self._clock.now_s() - began_s)))

    async def _look_at(self, job_id: str, *, wait_s: int = 0) -> None:
        """One job, when it has ended or so many seconds later."""
        params = {"wait": wait_s} if wait_s else None
        answer = await self._api.read(f"/v1/jobs/{job_id}", params, wait_s=wait_s)
        if answer.is_success:
            self._take(_job(answer))
        else:
            number = self._jobs.pop(job_id)
            self._journal.ended(number, "failed", gone_line(job_id, self._journal.custom_id(number)))
            self.sums.failed += 1

    async def _look_at_all(self) -> int:
        """All jobs by pages of the list, newest first, passing over stretches that are none of ours: how many pages."""
        left = sorted(self._jobs, reverse=True)
        pages = 0
        while left:
            pages += 1
            params: dict[str, str | int] = {"after": _after(left[0]), "limit": PAGE_JOBS}
            answer = await self._api.read("/v1/jobs", params)
            page = _read(JobList, answer)
            told = {job.id for job in page.data}
            last = page.data[-1].id if page.has_more and page.data else ""
            for job in page.data:
                self._take(job)
            missing = [job_id for job_id in left if job_id >= last and job_id not in told]
            left = [job_id for job_id in left if job_id < last]
            for job_id in missing:
                await self._look_at(job_id)
        return pages

    def _take(self, job: Job) -> None:
        """What is known of a job now."""
        if not job.finished or job.id not in self._jobs:
            return
        number = self._jobs.pop(job.id)
        succeeded = job.status == "succeeded"
        tokens = job.usage.total_tokens if job.usage else 0
        cost_usd = job.cost_usd or 0.0
        self._journal.ended(
            number,
            "succeeded" if succeeded else "failed",
            job_line(job, self._journal.custom_id(number)),
            tokens=tokens,
            cost_usd=cost_usd,
        )
        self.sums.succeeded += succeeded
        self.sums.failed += not succeeded
        self.sums.tokens += tokens
        self.sums.cost_usd += cost_usd

    async def _save_for_ever(self, show: Callable[[], None]) -> None:
        while True:
            self._output.grow()
            show()
            await self._clock.sleep(SAVE_S)


def _after(job_id: str) -> str:
    """The id right before which the list begins with `job_id`, the next greater one; ids are ULIDs."""
    return f"job_{ULID.from_int(int(ULID.from_str(job_id.removeprefix('job_'))) + 1)}"


def _job(answer: httpx2.Response) -> Job:
    return _read(Job, answer)


def _read(kind: type[Parsed], answer: httpx2.Response) -> Parsed:
    try:
        return kind.model_validate_json(answer.content)
    except ValidationError:
        raise CommandError(
            f"{answer.url} answered something that is no Penstock answer; check PENSTOCK_URL"
        ) from None


def _only_one(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    """The first of errors that came together: each task that fails stops the others."""
    first: BaseException = errors
    while isinstance(first, BaseExceptionGroup):
        first = first.exceptions[0]
    return first
