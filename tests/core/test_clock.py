"""A month on a faked clock: reports, handovers, and executions that only their own end ends."""

from __future__ import annotations

import asyncio
import selectors
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from broker.api import types as t
from broker.api.methods import Caller, Methods
from broker.journal import Journal
from broker.kernel.driver import KernelDriver, Report
from broker.kernel.dummy import DummyDriver
from broker.service import Broker
from broker.views.reports import Reporter

MINUTE, HOUR, DAY = 60.0, 3600.0, 86_400.0
MONTH = 30 * DAY
ME = Caller("me")


class LeapingLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock stands still while there is work, and then leaps to the next timer."""

    def __init__(self) -> None:
        self.now = 0.0
        self.committing: Callable[[], bool] = lambda: False
        """Whether the journal has something to write: a thread's work, which must not be leapt over."""
        self._in_threads = 0
        super().__init__(_Leaping(self))

    def time(self) -> float:
        return self.now

    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> asyncio.Future[Any]:
        future = super().run_in_executor(executor, func, *args)
        self._in_threads += 1
        future.add_done_callback(self._back)
        return future

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:
        """By its own clock, a timeout is over at once."""
        await super().shutdown_default_executor()

    def _back(self, future: asyncio.Future[Any]) -> None:
        self._in_threads -= 1

    def leaps(self, seconds: float) -> bool:
        """Let time pass, unless a thread is at work that will wake the loop."""
        if self._in_threads or self.committing():
            return False
        # A timer may be off by a rounding, and would be due in no time for ever.
        self.now += max(seconds, 1e-6)
        return True


class _Leaping(selectors.DefaultSelector):  # type: ignore[misc, valid-type]
    def __init__(self, loop: LeapingLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if ready or timeout == 0 or (timeout is not None and self._loop.leaps(timeout)):
            return ready
        ready = super().select(60)
        assert ready, "nothing is due and nothing happens: a deadlock"
        return ready


class Month:
    """A broker on kernels that do what they are told, and the reports that it makes."""

    def __init__(self, journal: Journal) -> None:
        self.drivers: list[DummyDriver] = []
        self.reports: list[tuple[float, str]] = []
        """When each was made, and its JSON."""
        self._loop = asyncio.get_running_loop()
        self.journal = journal
        self.broker = Broker(journal, self._make_driver, lambda: {"dummy": {}}, default_kernel="dummy")
        self.methods = Methods(self.broker)
        self.reporter = Reporter(self.broker, MINUTE)
        self.reporter.to(self._keep)

    def _make_driver(self, report: Report) -> KernelDriver:
        self.drivers.append(DummyDriver(report))
        return self.drivers[-1]

    def _keep(self, encoded: bytes) -> None:
        self.reports.append((self._loop.time(), encoded.decode()))

    def last_report(self) -> t.Report:
        return msgspec.json.decode(self.reports[-1][1], type=t.Report)

    async def execute(self, **params: Any) -> t.Execution:
        found: t.Execution = await self.methods.execute(ME, t.ExecuteParams(code="...", **params))
        await self.methods.settled()
        return found

    async def wait(self, execution_id: str, wait: float | None) -> t.Execution:
        found: t.Execution = await self.methods.wait(ME, t.WaitParams(execution_id=execution_id, wait=wait))
        await self.methods.settled()
        return found

    async def events(self, execution_id: str) -> list[str]:
        page = await self.methods.get_async_log(ME, t.GetAsyncLogParams(execution_id=execution_id))
        return [msgspec.json.decode(event)["type"] for event in page.events]


@pytest.fixture
def live(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[Month], Any]], None]:
    """Runs a coroutine function with a :class:`Month`, on a leaping clock that the wall clock follows."""

    def run(life: Callable[[Month], Any]) -> None:
        loop = LeapingLoop()
        began = time.time()
        monkeypatch.setattr(time, "time", lambda: began + loop.now)

        async def with_journal() -> None:
            month = Month(Journal(tmp_path / "journal.sqlite"))
            loop.committing = lambda: month.journal.pending > 0
            reporting = asyncio.ensure_future(month.reporter.run())
            try:
                await life(month)
            finally:
                reporting.cancel()
                await month.broker.stop()
                await month.journal.close()

        with asyncio.Runner(loop_factory=lambda: loop) as runner:
            runner.run(with_journal())

    return run


def test_a_month_of_reports_and_handovers_ends_nothing(live: Callable[[Callable[[Month], Any]], None]) -> None:
    async def life(month: Month) -> None:
        clock = asyncio.get_running_loop().time
        # One that is handed over, and then awaited for as long as it takes.
        long = (await month.execute(session="long", wait=30)).execution_id
        assert clock() == pytest.approx(30, abs=0.1)
        awaited = asyncio.ensure_future(month.wait(long, None))
        for day in range(30):
            await asyncio.sleep((day + 0.5) * DAY - clock())
            # And two a day, one behind the other, that are handed over, and end an hour later.
            daily = []
            for state in ("running", "queued"):
                asked = clock()
                reply = await month.execute(session="daily", wait=30)
                assert clock() - asked == pytest.approx(30)
                assert (reply.state, reply.detached) == (state, True)
                daily.append(reply.execution_id)
            await asyncio.sleep(HOUR)
            for execution_id in daily:
                assert month.drivers[1].running == [execution_id]
                month.drivers[1].finish(execution_id)
                assert (await month.wait(execution_id, None)).state == "completed"
                said = await month.events(execution_id)
                assert sorted(said) == ["execution_finished", "execution_queued", "execution_started", "handover"]
        assert (await month.wait(long, MONTH - clock())).state == "running"
        assert clock() == pytest.approx(MONTH)
        await asyncio.sleep(1)

        # A report a minute, to the last; each has it.
        assert len(month.reports) == MONTH / MINUTE == 43_200
        for number, (at, encoded) in enumerate(month.reports, 1):
            assert abs(at - number * MINUTE) < 1
            assert long in encoded
        (reported,) = month.last_report().executions
        assert reported.duration == pytest.approx(MONTH, abs=1)

        # Nothing was done to any kernel, and nothing was said of any execution but the handover.
        assert not awaited.done()
        assert [driver.running for driver in month.drivers] == [[long], []]
        assert await month.events(long) == ["execution_queued", "execution_started", "handover"]

        # It ends when it ends, and then the reports do.
        month.drivers[0].print(long, "at last\n")
        month.drivers[0].finish(long)
        ended = await awaited
        assert (ended.state, ended.text) == ("completed", "at last\n")
        reports = len(month.reports)
        await asyncio.sleep(DAY)
        assert len(month.reports) == reports

    live(life)
