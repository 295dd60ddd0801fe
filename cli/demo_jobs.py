"""The work of `penstock demo`: users on two tiers, real prompts over the HTTP API, and their jobs until they end."""

import asyncio
import json
import secrets
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import httpx2
from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError

from cli.errors import CommandError
from cli.wire import CreatedKey, Job, JobList, Problem

PROMPTS = Path(__file__).parents[1] / "examples" / "prompts.jsonl"
FREE_JOBS = 20
"""What the free tier may submit in a minute."""
USER_PREFIX = "demo-"
# Far more than the jobs take: only something broken gets here.
RUN_WITHIN_S = 180.0
_POLL_S = 0.25


class Prompt(BaseModel):
    """A line of the file of prompts."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    custom_id: str
    body: dict[str, JsonValue]

    @property
    def question(self) -> str:
        """The last thing the user says in it."""
        match self.body.get("messages"):
            case [*_, {"content": str(text)}]:
                return text
        return self.custom_id


@dataclass(slots=True)
class DemoUser:
    """One user with a key of their own; `jobs` by id, as last seen."""

    name: str
    tier: str
    key: str
    prompts: Sequence[Prompt]
    jobs: dict[str, Job] = field(default_factory=dict)
    asked: dict[str, Prompt] = field(default_factory=dict)

    @property
    def finished(self) -> bool:
        """Whether every prompt has become a job and every job has ended."""
        return len(self.jobs) == len(self.prompts) and all(job.finished for job in self.jobs.values())

    @property
    def states(self) -> Counter[str]:
        """How many jobs are in each state."""
        return Counter(job.status for job in self.jobs.values())

    @property
    def spent_tokens(self) -> int:
        """What the finished jobs used."""
        return sum(job.usage.total_tokens for job in self.jobs.values() if job.usage)


class DemoApi:
    """The API as the demo calls it, with one key or another."""

    def __init__(self, http: httpx2.AsyncClient) -> None:
        self._http = http

    async def ask(
        self,
        method: str,
        path: str,
        key: str,
        *,
        body: JsonValue = None,
        params: Mapping[str, str | int] | None = None,
    ) -> bytes:
        """The body of a 2xx answer. Raises CommandError for any other."""
        try:
            answer = await self._http.request(
                method, path, json=body, params=params, headers={"authorization": f"Bearer {key}"}
            )
        except httpx2.HTTPError as error:
            raise CommandError(f"{method} {path} got no answer ({type(error).__name__})") from None
        if not answer.is_success:
            raise CommandError(f"{method} {path} was answered {answer.status_code}: {_detail(answer)}")
        return answer.content


def read_prompts(path: Path = PROMPTS) -> list[Prompt]:
    """The prompts of a file with one JSON object per line. Raises CommandError."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        return [Prompt.model_validate_json(line) for line in lines if line.strip()]
    except FileNotFoundError:
        raise CommandError(
            f"the prompts of the demo are not at {path}: they come with a checkout of the project; "
            "run the demo there, with `make demo`"
        ) from None
    except ValidationError as error:
        raise CommandError(f"{path} has a line that is no prompt: {error.errors()[0]['msg']}") from None


async def make_users(api: DemoApi, admin_key: str, prompts: Sequence[Prompt]) -> list[DemoUser]:
    """A new user on `free` and one on `pro`, each with half of the prompts, the first with no more than it may send."""
    run = secrets.token_hex(3)
    half = min(len(prompts) // 2, FREE_JOBS)
    users = []
    for tier, share in (("free", prompts[:half]), ("pro", prompts[half:])):
        name = f"{USER_PREFIX}{tier}-{run}"
        await api.ask("POST", "/v1/admin/users", admin_key, body={"user": name, "tier": tier})
        body: JsonValue = {"user": name}
        created = CreatedKey.model_validate_json(
            await api.ask("POST", "/v1/admin/keys", admin_key, body=body)
        )
        users.append(DemoUser(name, tier, created.key, share))
    return users


async def submit_and_follow(api: DemoApi, users: Sequence[DemoUser], show: Callable[[], None]) -> None:
    """Submits everything at once, then polls until every job has ended; `show` is called whenever more is known.

    Raises CommandError if a job is refused, or has not ended in time.
    """
    await asyncio.gather(*(_submit(api, user, prompt) for user in users for prompt in user.prompts))
    show()
    loop = asyncio.get_running_loop()
    deadline_s = loop.time() + RUN_WITHIN_S
    while not all(user.finished for user in users):
        if loop.time() > deadline_s:
            raise CommandError(f"jobs have not ended after {RUN_WITHIN_S:g} s; look at the logs")
        await asyncio.sleep(_POLL_S)
        await asyncio.gather(*(_poll(api, user) for user in users if not user.finished))
        show()


async def _submit(api: DemoApi, user: DemoUser, prompt: Prompt) -> None:
    # The provider's log is told apart by the name in it: two runs may share one data directory.
    body: JsonValue = {"custom_id": prompt.custom_id, "body": {**prompt.body, "user": user.name}}
    job = Job.model_validate_json(await api.ask("POST", "/v1/jobs", user.key, body=body))
    user.jobs[job.id] = job
    user.asked[job.id] = prompt


async def _poll(api: DemoApi, user: DemoUser) -> None:
    page = JobList.model_validate_json(await api.ask("GET", "/v1/jobs", user.key, params={"limit": 100}))
    user.jobs.update((job.id, job) for job in page.data if job.id in user.asked)


def _detail(answer: httpx2.Response) -> str:
    try:
        return Problem.model_validate(json.loads(answer.content)).detail
    except ValueError:
        return answer.text[:200]
