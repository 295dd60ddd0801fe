"""Users who submit, poll, cancel and submit again whatever goes wrong, and remember all that they were told."""

import asyncio
import random
import time
from dataclasses import dataclass, field

import httpx2

from tests.chaos.caller import Caller, View
from tests.chaos.system import TIGHT, WIDE, System

PAUSE_S = 0.15
AGAIN_S = 0.1
KEY_TRIES = 200
REFUSED = frozenset({429})
ENDS_WITHIN_S = 150.0
"""Long after the faults are over: the longest wait of any attempt is a minute."""

_PROMPTS = (
    "", "", "", "", "[[slow:1.5]]", "[[slow:3]]", "[[fail:500x1]]", "[[fail:429x1]]", "[[fail:529x2]]", "[[resetx1]]",
    "[[cutx1]]", "[[garbagex1]]", "[[hangx1]]", "[[fail:400]]", "[[no-usage]]", "[[fail:500x1]] [[slow:1]]",
    "[[usage:7]]", "[[redirect]]",
)  # fmt: skip


@dataclass
class Wish:
    """What a user wanted done once, and what became of it. `answers`: the ids of 2xx answers."""

    marker: str
    user: str
    never: bool
    keyed: bool
    cancelled: bool = False
    refused: bool = False
    unknown: bool = False
    answers: set[str] = field(default_factory=set)
    ends: list[View] = field(default_factory=list)


@dataclass
class User:
    """One user's doings; `wrong` is what nobody should ever be answered."""

    caller: Caller
    system: System
    chance: random.Random
    wishes: list[Wish] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    _watching: set[asyncio.Task[None]] = field(default_factory=set)

    async def keep_wishing(self, over: asyncio.Event) -> None:
        """Submit until it is over."""
        while not over.is_set():
            await self._wish()
            await asyncio.sleep(self.chance.uniform(0, 2 * PAUSE_S))

    async def until_all_ended(self) -> None:
        """Returns when every accepted job has been seen at its end."""
        await asyncio.gather(*self._watching)

    async def _wish(self) -> None:
        chance = self.chance
        marker = self.system.marker()
        wish = Wish(marker, self.caller.user, chance.random() < 0.3, chance.random() < 0.5)
        self.wishes.append(wish)
        fields: dict[str, object] = {"retry": "never" if wish.never else "safe"}
        fields["model"] = TIGHT if chance.random() < 0.3 else WIDE
        if fields["model"] == TIGHT or chance.random() < 0.15:
            fields["expires_after"] = chance.randrange(1, 15)
        if chance.random() < 0.15:
            fields["not_before"] = int(time.time())
        if self.caller.user == "poor":
            fields["on_budget"] = chance.choice(("wait", "reject"))
            fields["expires_after"] = chance.randrange(2, 15)
        prompt, max_tokens = chance.choice(_PROMPTS), chance.randrange(10, 60)
        cancels_after_s = chance.uniform(0, 3) if chance.random() < 0.15 else None
        for _ in range(KEY_TRIES if wish.keyed else 1):
            answer = await self._submit(wish, prompt, max_tokens, fields)
            if answer is not None:
                break
            await asyncio.sleep(AGAIN_S)
        if wish.answers:
            task = asyncio.create_task(self._watch(wish, min(wish.answers), cancels_after_s))
            self._watching.add(task)

    async def _submit(
        self, wish: Wish, prompt: str, max_tokens: int, fields: dict[str, object]
    ) -> httpx2.Response | None:
        """The answer; None where it may be asked for again."""
        key = wish.marker if wish.keyed else None
        try:
            answer = await self.caller.submit(wish.marker, prompt, key=key, max_tokens=max_tokens, **fields)
        except httpx2.TransportError:
            wish.unknown = True
            return None
        if answer.status_code == 503:
            wish.refused = True
            return None
        if answer.status_code in (200, 202):
            wish.answers.add(answer.json()["id"])
        elif answer.status_code not in REFUSED:
            self.wrong.append(f"{wish.marker} was answered {answer.status_code}: {answer.text}")
        if wish.keyed and self.chance.random() < 0.2:
            # Once more, as a client does that has lost the answer.
            again = await self._once_more(wish, prompt, max_tokens, fields)
            if again is not None and again.status_code in (200, 202):
                wish.answers.add(again.json()["id"])
        return answer

    async def _once_more(
        self, wish: Wish, prompt: str, max_tokens: int, fields: dict[str, object]
    ) -> httpx2.Response | None:
        try:
            return await self.caller.submit(
                wish.marker, prompt, key=wish.marker, max_tokens=max_tokens, **fields
            )
        except httpx2.TransportError:
            return None

    async def _watch(self, wish: Wish, job_id: str, cancels_after_s: float | None) -> None:
        if cancels_after_s is not None:
            await asyncio.sleep(cancels_after_s)
            wish.cancelled = True
            await self._cancel(job_id)
        deadline = time.monotonic() + ENDS_WITHIN_S
        while time.monotonic() < deadline:
            try:
                view = await self.caller.view(job_id, wait_s=self.chance.choice((0, 2, 5)))
            except AssertionError as error:
                self.wrong.append(str(error))
                return
            if view.final:
                wish.ends.append(view)
                return
            await asyncio.sleep(AGAIN_S)
        self.wrong.append(f"{wish.marker} ({job_id}) did not end in {ENDS_WITHIN_S:.0f} s: {view}")

    async def _cancel(self, job_id: str) -> None:
        for _ in range(KEY_TRIES):
            try:
                answer = await self.caller.ask("POST", f"/v1/jobs/{job_id}/cancel")
            except httpx2.TransportError:
                answer = None
            if answer is not None and answer.status_code != 503:
                if answer.status_code not in (200, 409):
                    self.wrong.append(f"cancel of {job_id} was answered {answer.status_code}: {answer.text}")
                return
            await asyncio.sleep(AGAIN_S)
