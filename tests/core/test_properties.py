"""Whatever happens, in whatever order: what must always hold."""

from __future__ import annotations

import json
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.core import messages as m
from broker.core.errors import BrokerError
from broker.core.events import Event, EventType
from broker.core.promises import CONCURRENT, NOTHING_LOST
from broker.core.records import ExecutionRecord
from broker.core.state import Run

from .world import RAISED, World

LINE = b'{"name":"stdout","text":"a\\n"}'
IDS = st.sampled_from(["x1", "x2", "x3", "x4"])
PROMISES = st.sampled_from([{}, {CONCURRENT: True}, {NOTHING_LOST: True}, {NOTHING_LOST: True, CONCURRENT: True}])
NUMBERS = st.integers(0, 12)
"""So few of them that many come again."""
INPUTS = st.one_of(
    st.builds(m.WaiterGone, IDS),
    st.builds(m.SendStdin, IDS, st.lists(st.just("line"), max_size=2).map(tuple), st.booleans()),
    st.builds(m.Interrupt, IDS),
    st.builds(m.Kill, IDS),
    st.builds(m.ClearHistory, IDS),
    st.builds(m.Restart),
    st.builds(m.Restored),
    st.builds(m.EnsureKernel),
    st.builds(m.KernelReady, PROMISES),
    st.builds(m.KernelReady, PROMISES, st.just(True)),
    st.builds(m.KernelStartFailed, st.just("no")),
    st.builds(m.KernelGone, st.sampled_from([None, 0, -9])),
    st.builds(m.Published, IDS, st.just("stream"), st.just(LINE), number=NUMBERS),
    st.builds(m.Idle, IDS, number=NUMBERS),
    st.builds(m.Replied, IDS, st.sampled_from(["ok", "error"]), st.sampled_from([None, RAISED]), number=NUMBERS),
    st.builds(m.Prompted, IDS, st.just("?"), st.booleans(), number=NUMBERS),
    st.builds(m.ProbeAnswered, IDS, number=NUMBERS),
    st.builds(m.RollCall, st.frozensets(IDS), number=NUMBERS),
)
SUBMITS = st.fixed_dictionaries(
    {"on_busy": st.sampled_from(["auto", "auto", "queue", "concurrent", "reject"]), "wait": st.sampled_from([0.0, 5.0])}
)
STEPS = st.lists(st.one_of(INPUTS, SUBMITS, SUBMITS, st.floats(0, 40)), max_size=40)


@settings(max_examples=400, deadline=None)
@given(STEPS, PROMISES)
def test_nothing_that_can_happen_breaks_what_is_promised(
    steps: list[m.Input | dict[str, Any] | float], promises: dict[str, bool]
) -> None:
    world = World(promises=promises)
    for step in steps:
        if isinstance(step, float):
            world.pass_time(step)
            continue
        before, events, heard = world.snapshot(), len(world.events), world.session.record.heard
        try:
            if isinstance(step, dict):
                world.submit(**step)
            else:
                world.feed(step)
        except BrokerError:
            assert world.snapshot() == before, "a refused input changes nothing"
            assert len(world.events) == events
        if isinstance(step, m.FromKernel) and 0 < step.number <= heard:
            assert world.snapshot() == before, "no number is heard twice"
            assert len(world.events) == events
        lanes = [world.record(id).lane for id in world.session.live if world.record(id).run.in_kernel]
        assert len(lanes) == len(set(lanes)), "a lane holds one request at a time"
        for id in world.session.live:
            queued = world.record(id).run is Run.QUEUED
            assert (world.session.place(id) is not None) == (world.session.waits(id) is not None) == queued
    for id in {event.execution_id for event in world.events if event.execution_id}:
        counted = [event.n for event in world.events if event.execution_id == id]
        assert counted == list(range(1, len(counted) + 1)), "n has no hole"
        ends = world.said(EventType.EXECUTION_FINISHED, id)
        assert len(ends) == (1 if world.record(id).run.ended else 0), "an end is said once"
        assert len(world.said(EventType.EXECUTION_STARTED, id)) <= 1, "nothing begins twice"
        assert len(world.said(EventType.HANDOVER, id)) <= 1
    sent = [id for id, _ in world.sent()]
    assert len(sent) == len(set(sent)), "no code is sent twice"
    assert all(world.record(id).run is not Run.QUEUED for id in sent)


@given(st.lists(st.one_of(SUBMITS, st.integers(0, 5), st.floats(0, 10)), max_size=40))
def test_a_kernel_that_does_not_promise_otherwise_has_one_execution_at_a_time(
    steps: list[dict[str, Any] | int | float],
) -> None:
    world = World()
    for step in steps:
        running = [id for id in world.session.live if world.record(id).run.in_kernel]
        assert len(running) <= 1
        if isinstance(step, dict):
            try:
                world.submit(**step)
            except BrokerError:
                assert running
        elif isinstance(step, float):
            world.pass_time(step)
        elif running:
            world.finish(running[0])


# A broker that is killed, at any moment, again and again

SAYINGS = st.tuples(
    st.sampled_from(["print", "reply", "idle", "reply", "idle", "raise", "ask", "background"]), st.integers(0, 2)
)
ROUNDS = st.lists(
    st.tuples(
        st.one_of(SUBMITS, st.lists(SAYINGS, max_size=4), st.lists(SAYINGS, max_size=4), st.just("answer")),
        st.sampled_from(["lives", "lives", "dies before the commit", "dies after the commit"]),
    ),
    max_size=25,
)
Drawn = list[tuple[list[tuple[str, int]] | dict[str, Any] | str, str]]
Round = list[m.FromKernel] | m.SendStdin | dict[str, Any]
"""What is handled together: what the kernel said, or what a caller asked."""


def saying(kind: str, id: str, number: int) -> m.FromKernel:
    text = json.dumps({"name": "stdout", "text": f"{number}\n"}).encode()
    return {
        "print": m.Published(id, "stream", text),
        "background": m.Published(None, "stream", text),
        "raise": m.Published(id, "error", msgspec.json.encode(RAISED)),
        "reply": m.Replied(id, "ok"),
        "idle": m.Idle(id),
        "ask": m.Prompted(id, "?", password=False),
    }[kind]


def live(rounds: Drawn, world: World) -> list[tuple[Round, str]]:
    """Go through it all with a broker that lives; return what the kernel said and the callers asked, and who dies.

    A kernel speaks only of what it was sent, and it is sent only what is on disk: what a round before has begun.
    """
    told: list[tuple[Round, str]] = []
    for each, fate in rounds:
        if isinstance(each, dict):
            options = {"on_busy": each["on_busy"].replace("reject", "auto"), "wait": 0.0}
            told.append((options, fate))
            world.submit(**options)
        elif isinstance(each, str):
            for id in [id for id in world.session.live if world.record(id).run is Run.AWAITING_INPUT][:1]:
                answer = m.SendStdin(id, ("line",))
                told.append((answer, fate))
                world.feed(answer)
        else:
            ids = started(world.events)
            said = [world.say(saying(kind, ids[-1 - at % len(ids)], world.number + 1)) for kind, at in each if ids]
            told.append((said, fate))
    return told


class Mortal:
    """A session whose brokers are killed, beside what outlives them: the journal, and the kernel with its outbox."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.journal: list[Event] = []
        self.outbox: list[m.FromKernel] = []
        self.received: list[str] = []
        self._records = world.restored()
        self._ended: dict[str, bytes] = {}

    def hear(self, said: list[m.FromKernel]) -> None:
        for each in said:
            self.world.feed(each)

    def commit(self) -> None:
        """Write the events, if there are any, and the records with them."""
        if self.world.events:
            self.journal += self.world.events
            self.world.events.clear()
            self._records = self.world.restored()
            records = [self.world.record(id) for id in started(self.journal)]
            self._ended = {each.execution_id: msgspec.json.encode(each) for each in records if each.run.ended}

    def send(self) -> None:
        """What is on disk is sent to the kernel."""
        self.received += [id for id, _ in self.world.sent()]

    def be_replaced(self) -> None:
        """Kill the broker. The next one knows the records, reads the outbox, and calls the roll."""
        self.world = self._records.restored()
        for record in self._ended.values():
            self.world.session.remember(msgspec.json.decode(record, type=ExecutionRecord))
        self.hear([said for said in self.outbox if said.number >= self.world.session.record.heard])
        self.world.feed(m.KernelReady(self.world.promises, adopted=True))
        self.world.feed(m.RollCall(frozenset(self.received)))


def started(events: list[Event]) -> list[str]:
    return [event.execution_id for event in events if event.type is EventType.EXECUTION_STARTED and event.execution_id]


def story(events: list[Event], id: str | None) -> list[tuple[str, int | None, bytes]]:
    """What was said of an execution, but for the times, and for the lane: that is the next broker's choice."""
    return [
        (event.type, event.n, msgspec.json.encode({k: v for k, v in event.fields.items() if k != "lane"}))
        for event in events
        if event.execution_id == id and event.type is not EventType.KERNEL_STATUS
    ]


@settings(max_examples=400, deadline=None)
@given(ROUNDS, st.sampled_from([{NOTHING_LOST: True}, {NOTHING_LOST: True, CONCURRENT: True}]))
def test_brokers_that_are_killed_leave_the_journal_as_one_that_lived(rounds: Drawn, promises: dict[str, bool]) -> None:
    lived, mortal = World(promises=promises), Mortal(World(promises=promises))
    for told, fate in live(rounds, lived):
        if isinstance(told, dict):
            mortal.world.submit(**told)
        elif isinstance(told, m.SendStdin):
            mortal.world.feed(told)
        else:
            mortal.outbox += told
            mortal.hear(told)
            if fate == "dies before the commit":
                mortal.be_replaced()
        mortal.commit()
        if fate == "dies after the commit":
            mortal.be_replaced()
            mortal.commit()
        mortal.send()
    for id in {None, *(event.execution_id for event in lived.events)}:
        assert story(mortal.journal, id) == story(lived.events, id)
    assert mortal.received == started(mortal.journal), "each is sent once, as soon as it is on disk"
    assert mortal.world.session.live == lived.session.live
