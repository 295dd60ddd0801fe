"""Carries out a schedule's faults on a running system, each in a task of its own, and heals what is left of them."""

import asyncio
from collections.abc import Awaitable, Callable

from tests.chaos.plan import Fault, Plan
from tests.chaos.processes import Process
from tests.chaos.system import STARTED, System
from tests.support.valkey import HOST

ENDS_S = 60.0
"""A process that was told to stop and has not by then is stuck."""


class Havoc:
    """The faults of one run. `wrong` is what went wrong with the processes themselves."""

    def __init__(self, system: System) -> None:
        self._system = system
        self._valkey = asyncio.Lock()
        self._processes = {one.name: asyncio.Lock() for one in system.processes}
        self.wrong: list[str] = []

    async def wreak(self, plan: Plan) -> None:
        """Returns when the last fault is over."""
        async with asyncio.TaskGroup() as tasks:
            for fault in plan.faults:
                tasks.create_task(self._at_its_time(fault))

    async def heal(self) -> None:
        """Whatever is frozen, cut or down is well again; returns when all are ready."""
        await self._system.heal()

    async def _at_its_time(self, fault: Fault) -> None:
        await asyncio.sleep(fault.at_s)
        system = self._system
        workers, apis = system.workers, system.apis
        match fault.kind:
            case "kill worker":
                await self._one(workers, fault, self._killed)
            case "kill api":
                await self._one(apis, fault, self._killed)
            case "freeze worker":
                await self._one(workers, fault, self._frozen)
            case "freeze api":
                await self._one(apis, fault, self._frozen)
            case "terminate worker":
                await self._one(workers, fault, self._terminated)
            case "terminate api":
                await self._one(apis, fault, self._terminated)
            case "kill valkey":
                async with self._valkey:
                    await asyncio.to_thread(system.valkey.kill)
                    await asyncio.sleep(fault.lasts_s)
                    await asyncio.to_thread(system.valkey.start)
            case "freeze valkey":
                async with self._valkey:
                    system.valkey.freeze()
                    await asyncio.sleep(fault.lasts_s)
                    system.valkey.thaw()
            case "full valkey":
                async with self._valkey:
                    await system.redis.config_set("maxmemory", "1")
                    await asyncio.sleep(fault.lasts_s)
                    await system.redis.config_set("maxmemory", "0")
            case "read-only valkey":
                async with self._valkey:
                    # Of a primary that is not there: as after a failover that went the other way.
                    await system.redis.replicaof(HOST, "1")
                    await asyncio.sleep(fault.lasts_s)
                    await system.redis.replicaof("NO", "ONE")
            case "full disk":
                async with self._valkey:
                    await system.redis.config_set("appendfsync", "everysec")
                    system.valkey.room_on_disk(0)
                    await asyncio.sleep(fault.lasts_s)
                    system.valkey.room_on_disk(None)
                    await system.redis.config_set("appendfsync", "always")
            case "freeze provider":
                system.simulators[0].freeze()
                await asyncio.sleep(fault.lasts_s)
                system.simulators[0].thaw()
            case _:
                await self._of_the_line(fault)

    async def _of_the_line(self, fault: Fault) -> None:
        system, proxy = self._system, self._system.proxy
        match fault.kind:
            case "cut":
                proxy.cut()
            case "half-cut":
                proxy.half_cut = True
                await asyncio.sleep(fault.lasts_s)
                proxy.half_cut = False
            case "deaf":
                proxy.deaf = True
                proxy.cut()
                await asyncio.sleep(fault.lasts_s)
                proxy.deaf = False
            case "slow":
                proxy.delay_s = 0.1
                await asyncio.sleep(fault.lasts_s)
                proxy.delay_s = 0.0
            case "frozen line":
                proxy.freeze()
                await asyncio.sleep(fault.lasts_s)
                proxy.thaw()
            case _:
                await system.fault(dict(fault.rates))
                await asyncio.sleep(fault.lasts_s)
                await system.fault({})

    async def _one(
        self, among: list[Process], fault: Fault, what: Callable[[Process, float], Awaitable[None]]
    ) -> None:
        process = among[fault.target]
        async with self._processes[process.name]:
            if not process.runs:
                self.wrong.append(f"{process.name} has ended by itself:\n{process.log[-2000:]}")
                process.start()
                return
            await what(process, fault.lasts_s)

    async def _killed(self, process: Process, lasts_s: float) -> None:
        process.kill()
        await asyncio.sleep(lasts_s)
        process.start()

    async def _frozen(self, process: Process, lasts_s: float) -> None:
        process.freeze()
        await asyncio.sleep(lasts_s)
        process.thaw()

    async def _terminated(self, process: Process, lasts_s: float) -> None:
        ready = process.has_said(STARTED) or process.has_said("Uvicorn running")
        process.terminate()
        try:
            status = await process.ended(ENDS_S)
        except TimeoutError:
            self.wrong.append(f"{process.name} did not stop:\n{process.log[-2000:]}")
            process.kill()
        else:
            # Before it has taken over the signals, they end it as they end anything.
            if status != 0 and ready:
                self.wrong.append(
                    f"{process.name} was told to stop and ended with {status}:\n{process.log[-2000:]}"
                )
        await asyncio.sleep(lasts_s)
        process.start()
