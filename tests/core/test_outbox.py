"""A kernel that keeps what it says until it is in the journal: each message is heard once, whatever happens."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import msgspec
import pytest

from broker.core import messages as m
from broker.core.events import EventType
from broker.core.lanes import MAIN
from broker.core.promises import CONCURRENT, NOTHING_LOST
from broker.core.records import ExecutionRecord, SessionRecord
from broker.core.session import GRACE, Session
from broker.core.state import Completion, Run
from broker.journal import Journal
from broker.kernel.driver import KernelDriver, Report
from broker.kernel.dummy import DummyDriver
from broker.runner import ROUND, Runner

from .world import RAISED, World

PROMISES = {NOTHING_LOST: True, CONCURRENT: True}
LINE = b'{"name":"stdout","text":"a\\n"}'


def keeping() -> World:
    return World(promises=PROMISES)


def test_a_number_that_was_heard_is_not_heard_again() -> None:
    world = keeping()
    id = world.submit()
    said = world.say(m.Published(id, "stream", LINE))
    before, events = world.snapshot(), len(world.events)
    world.feed(said)
    assert (world.snapshot(), len(world.events)) == (before, events)
    assert world.session.record.heard == 1
    world.say(m.Published(id, "stream", LINE))
    assert len(world.said(EventType.OUTPUT)) == 2


def test_a_new_kernel_counts_anew() -> None:
    world = keeping()
    id = world.submit()
    world.say(m.Published(id, "stream", LINE))
    world.feed(m.KernelGone(1))
    assert world.session.record.heard == 1
    world.submit()
    assert world.session.record.heard == 0
    world.start_kernel()
    world.say(m.Published(None, "stream", LINE))
    assert len(world.said(EventType.OUTPUT)) == 2


def test_a_missing_half_of_done_is_waited_for_and_never_asked_for() -> None:
    world = keeping()
    id = world.submit(wait=0)
    world.say(m.Replied(id, "ok"))
    world.pass_time(GRACE * 100)
    assert not world.did(m.Probe)
    world.say(m.Idle(id))
    assert world.record(id).run is Run.COMPLETED
    assert not world.said(EventType.GAP)


def test_half_of_done_is_on_record_for_the_next_broker() -> None:
    world = keeping()
    id = world.submit(wait=0)
    world.say(m.Published(id, "error", msgspec.json.encode(RAISED)))
    world.say(m.Replied(id, "error", RAISED))
    again = world.restored()
    again.feed(m.KernelReady(PROMISES, adopted=True))
    assert again.record(id).ending.completion is Completion.REPLY
    again.say(m.Idle(id))
    assert (again.record(id).run, again.record(id).error) == (Run.FAILED, RAISED)
    assert again.record(id).ending.completion is Completion.NONE, "it says so itself now"


def test_a_kernel_taken_back_has_no_gap_and_is_asked_nothing() -> None:
    world = keeping()
    id = world.submit(wait=0)
    again = world.restored()
    again.say(m.Published(id, "stream", LINE))
    again.feed(m.KernelReady(PROMISES, adopted=True))
    assert not again.did(m.Probe)
    assert not again.said(EventType.GAP)
    assert again.record(id).lines == 1


def test_a_kernel_that_dies_leaves_no_gap() -> None:
    world = keeping()
    id, other = world.submit(wait=0), world.submit(wait=0)
    world.feed(m.KernelGone(-11))
    assert not world.said(EventType.GAP)
    assert world.record(id).run is world.record(other).run is Run.LOST


def test_a_prompt_of_what_is_over_gets_the_end_of_input() -> None:
    world = keeping()
    id = world.submit()
    world.finish(id)
    world.say(m.Prompted(id, "anyone? ", password=False, request_id="p"))
    assert world.did(m.SendInput) == [m.SendInput(id, None)]


def test_what_was_written_down_and_never_came_is_sent_again() -> None:
    world = keeping()
    came, never, queued = world.submit(wait=0), world.submit(wait=0), world.submit(wait=0, on_busy="queue")
    again = world.restored()
    again.feed(m.KernelReady(PROMISES, adopted=True))
    events = len(again.events)
    again.say(m.RollCall(frozenset({came})))
    assert again.did(m.SendExecute) == [m.SendExecute(never, "code", "lane-1")]
    again.say(m.RollCall(frozenset({came})))
    assert not again.sent(), "nobody is sent twice by one broker"
    assert len(again.events) == events
    assert again.record(queued).run is Run.QUEUED


def test_what_has_answered_or_was_sent_by_this_broker_is_not_sent_again() -> None:
    world = keeping()
    replied = world.submit(wait=0)
    world.say(m.Replied(replied, "ok"))
    again = world.restored()
    again.feed(m.KernelReady(PROMISES, adopted=True))
    ours = again.submit(wait=0)
    assert again.sent() == [(ours, "lane-1")]
    again.say(m.RollCall(frozenset()))
    assert not again.sent()


# The runner: what is told to the kernel is on disk


async def until(holds: Callable[[], bool]) -> None:
    while not holds():  # noqa: ASYNC110 (what it waits for has no event)
        await asyncio.sleep(0.001)


class Life:
    """A session on a kernel that does what it is told, and its journal, which the next broker opens."""

    def __init__(self, path: Path) -> None:
        self.journal = Journal(path)
        record = SessionRecord(session_id="s", name="s", owner="me", kernel="k", working_directory="/", created_at=0.0)
        self.runner = Runner(Session(record), self.journal, self._make_driver)
        self.driver: DummyDriver

    def _make_driver(self, report: Report) -> KernelDriver:
        self.driver = DummyDriver(report, PROMISES)
        return self.driver

    async def execute(self, id: str, *, wait: float | None = 0) -> None:
        record = ExecutionRecord(execution_id=id, session_id="s", owner="me", created_at=0.0)
        await self.runner.submit(m.Submit(record, "code", wait))
        await until(lambda: id in self.driver.running)

    async def settled(self) -> None:
        """Until all that was reported is dealt with."""
        await self.runner.submit(m.EnsureKernel())

    @property
    def kept(self) -> SessionRecord:
        """The session as it is on disk."""
        record = self.journal.session("s")
        assert record is not None
        return record


@pytest.fixture
async def life(tmp_path: Path) -> AsyncIterator[Life]:
    life = Life(tmp_path / "journal.sqlite")
    yield life
    await life.runner.leave()
    await life.journal.close()


async def test_the_kernel_is_told_what_is_on_disk_and_only_that(life: Life) -> None:
    await life.execute("x1")
    life.driver.print("x1", "a\n")
    life.driver.print("x1", "b\n")
    await until(lambda: life.driver.forgotten > 0)
    assert life.kept.heard >= life.driver.forgotten
    await until(lambda: life.driver.forgotten == 2)
    assert life.kept.heard == 2


async def test_what_makes_no_event_is_kept_with_the_next_that_does(life: Life) -> None:
    await life.execute("x1")
    life.runner.feed(m.Replied("x1", "ok", number=1))
    await life.settled()
    assert (life.kept.heard, life.driver.forgotten) == (0, 0), "it would be read again"
    life.runner.feed(m.Published(None, "stream", LINE, number=2))
    await until(lambda: life.driver.forgotten == 2)
    record = life.journal.execution("x1")
    assert record is not None
    assert record.ending.completion is Completion.REPLY


async def test_much_that_makes_no_event_is_kept_by_itself(life: Life) -> None:
    await life.execute("x1")
    await until(lambda: life.journal.pending == 0)
    seq = life.journal.seq
    for number in range(1, ROUND + 1):
        life.runner.feed(m.Idle("somebody else's", number=number))
    await life.settled()
    assert life.kept.heard == life.driver.forgotten == ROUND
    assert life.journal.seq == seq


async def test_the_last_words_of_a_kernel_are_told_before_the_next_one_counts(life: Life) -> None:
    await life.execute("x1")
    life.driver.print("x1", "last words\n")
    life.runner.feed(m.KernelGone(1))
    told: list[int] = []
    life.driver.digested = told.append  # type: ignore[assignment, method-assign]
    life.driver.running.clear()
    await life.execute("x2")
    life.driver.finish("x2")
    await until(lambda: len(told) == 2)
    assert told == [1, 2]


async def test_all_that_ended_in_one_round_is_on_record(life: Life) -> None:
    await life.execute("x0")
    ids = [f"q{number}" for number in range(300)]
    for id in ids:
        record = ExecutionRecord(execution_id=id, session_id="s", owner="me", created_at=0.0, on_busy="queue")
        life.runner.feed(m.Submit(record, "code", 0))
    await life.settled()
    life.runner.feed(m.KernelGone(1))
    await life.settled()
    assert life.journal.executions_alive() == []


async def test_the_next_broker_goes_on_after_what_is_on_disk(life: Life) -> None:
    await life.execute("x1")
    life.driver.print("x1", "a\n")
    await until(lambda: life.driver.forgotten == 1)
    life.runner.feed(m.Replied("x1", "ok", number=2))
    await life.settled()
    (record,) = life.journal.executions_alive()
    again = World(Session(life.kept, [(record, "code")]), promises=PROMISES)
    for said in (
        m.Published("x1", "stream", LINE, number=1),
        m.Replied("x1", "ok", number=2),
        m.Idle("x1", number=3),
    ):
        again.feed(said)
    assert [event.type for event in again.events] == [EventType.EXECUTION_FINISHED]
    assert again.record("x1").lane == MAIN
