"""Several executions at once that print all the time, in two sessions, and the proof of what they have printed."""

from __future__ import annotations

import asyncio
from pathlib import Path

from ..running import BrokerProcess, Wire
from . import workload
from .reader import check, read, subscribed
from .workload import SOURCES, Counts

CODE = Path(workload.__file__).read_text()


def code(seed: str, directory: Path, sources: tuple[str, ...] = SOURCES, pause: float = 0.03) -> str:
    return f"{CODE}\nwork({seed!r}, {str(directory)!r}, {sources!r}, {pause!r})"


class Load:
    """``lanes``: how many executions each session runs side by side, by its name."""

    def __init__(self, broker: BrokerProcess, directory: Path, seed: int, lanes: dict[str, int]) -> None:
        self.broker, self.directory, self._seed, self._lanes = broker, directory, seed, lanes
        self.executions: dict[str, tuple[str, str]] = {}
        """The session and the seed of each."""
        directory.mkdir()

    async def begin(self, sources: tuple[str, ...] = SOURCES, pause: float = 0.03) -> None:
        async with self.broker.connect() as wire:
            for session, lanes in self._lanes.items():
                for lane in range(lanes):
                    seed = f"{self._seed}-{session}-{lane}"
                    text = code(seed, self.directory, sources, pause)
                    execution = await wire.execute(text, session=session, wait=0, on_busy="concurrent")
                    self.executions[execution["execution_id"]] = session, seed
            for id in self.executions:
                await wire.until(id, lambda execution: execution["lines"] > 0)

    def end(self) -> None:
        """Let all of them come to their end."""
        (self.directory / "stop").touch()

    def total(self) -> int:
        """How many lines have been printed by now."""
        return sum(Counts(self.directory, seed)[source] for _, seed in self.executions.values() for source in SOURCES)

    async def check(self) -> int:
        """End it, and prove that nothing is lost, by every way to read. Returns how many lines there are."""
        self.end()
        total = 0
        async with self.broker.connect() as wire:
            await asyncio.gather(*(wire.done(id) for id in self.executions))
            for id, (_, seed) in self.executions.items():
                total += check(await read(wire, self.broker.data_dir, id), seed, self.directory)
            for session in self._lanes:
                await self._check_session(wire, session)
        return total

    async def _check_session(self, wire: Wire, session: str) -> None:
        """A session's own subscription has the same events as those of its executions."""
        mine = [id for id, (of, _) in self.executions.items() if of == session]
        each = [event for id in mine for event in await wire.events(id)]
        last = max(event["seq"] for event in each)
        events = await subscribed(wire, lambda event: event["seq"] == last, session=session)
        assert all(event["type"] != "gap" for event in events)
        assert sorted(each, key=lambda event: event["seq"]) == [e for e in events if e["execution_id"] in mine]
