"""Webhooks as the routes need them: the parts of one process, and the check of a URL before anything is accepted."""

from dataclasses import dataclass

from api.errors import FieldError, Problem
from jobs.config import Config
from jobs.config.model import Webhooks
from jobs.egress import Policy, Refused, SubmissionCheck, Target
from jobs.webhooks.deliveries import Deliveries
from jobs.webhooks.endpoints import Endpoints


@dataclass(slots=True)
class Hooks:
    """`check` looks names up; what it lets through is judged again by the worker that connects."""

    endpoints: Endpoints
    deliveries: Deliveries
    check: SubmissionCheck
    _known: tuple[Webhooks, Policy] | None = None

    async def start(self) -> None:
        """Take up the job store. Raises RedisError."""
        await self.endpoints.start()
        await self.deliveries.start()

    async def target(self, url: str, config: Config, pointer: str) -> Target:
        """Where this URL leads. Raises Problem 422 where webhooks may not go there; `pointer` is its field."""
        target = await self.check.check(url, self._policy(config.webhooks))
        if isinstance(target, Refused):
            raise forbidden(target.rule, target.message, pointer)
        return target

    def _policy(self, settings: Webhooks) -> Policy:
        if self._known is None or self._known[0] is not settings:
            self._known = (settings, Policy.of(settings))
        return self._known[1]


def forbidden(rule: str, message: str, pointer: str) -> Problem:
    """422 `webhook_url_forbidden`: by this rule."""
    return Problem(
        "webhook_url_forbidden",
        f"{pointer[1:]} {message}.",
        extra={"rule": rule},
        errors=(FieldError(pointer, message),),
    )
