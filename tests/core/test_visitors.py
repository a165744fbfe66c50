"""Cells that other clients of a kernel run: part of the session's history, and nobody's to wait for or to answer."""

from __future__ import annotations

import json

import pytest

from broker.core import messages as m
from broker.core.errors import NotWaiting
from broker.core.events import EventType
from broker.core.lanes import MAIN
from broker.core.promises import CONCURRENT, NOTHING_LOST
from broker.core.state import Origin, Run

from .world import RAISED, World

OURS = {CONCURRENT: True, NOTHING_LOST: True}


def visit(world: World, id: str = "theirs", code: str = "look()") -> str:
    world.feed(m.Published(id, "execute_input", json.dumps({"code": code, "execution_count": 7}).encode()))
    return id


def test_a_cell_of_another_client_is_on_record_as_theirs() -> None:
    world = World(promises=OURS)
    id = visit(world)
    world.print(id, "seen\n")
    assert world.record(id).run is Run.RUNNING
    world.feed(m.Idle(id))
    record = world.record(id)
    assert (record.run, record.origin, record.title, record.execution_count, record.lines) == (
        Run.COMPLETED,
        Origin.JUPYTER,
        "look()",
        7,
        1,
    )
    assert [e.type for e in world.events if e.execution_id == id] == [
        EventType.EXECUTION_QUEUED,
        EventType.EXECUTION_STARTED,
        EventType.EXECUTION_COUNT,
        EventType.OUTPUT,
        EventType.EXECUTION_FINISHED,
    ]
    assert world.said(EventType.EXECUTION_QUEUED, id) == [{"code": "look()", "origin": "jupyter"}]
    assert world.sent() == [], "it is in the kernel already"


def test_its_error_is_how_it_ended() -> None:
    world = World(promises=OURS)
    world.feed(m.Published(visit(world), "error", json.dumps(RAISED).encode()))
    world.feed(m.Idle("theirs"))
    assert (world.record("theirs").run, world.record("theirs").error) == (Run.FAILED, RAISED)


def test_an_execution_of_ours_is_not_taken_for_theirs() -> None:
    world = World(promises=OURS)
    id = visit(world, world.submit())
    assert world.record(id).origin is Origin.API
    assert world.record(id).execution_count == 7
    world.finish(id)
    visit(world, id)
    assert len(world.said(EventType.EXECUTION_QUEUED)) == 1


def test_the_next_execution_runs_beside_it_where_the_kernel_can() -> None:
    world = World(promises=OURS)
    visit(world)
    beside = world.submit(on_busy="reject")
    assert world.sent() == [(beside, "lane-1")]


def test_the_next_execution_waits_for_it_where_the_kernel_cannot() -> None:
    world = World()
    visit(world)
    waiting = world.submit()
    assert world.sent() == []
    assert world.session.place(waiting) == (1, "theirs")
    world.feed(m.Idle("theirs"))
    assert world.sent() == [(waiting, MAIN)]


def test_an_idle_that_is_lost_keeps_nobody_waiting() -> None:
    world = World()
    visit(world)
    assert world.did(m.Probe) == [m.Probe("theirs", MAIN)]
    world.feed(m.ProbeAnswered("theirs"))
    assert world.record("theirs").run is Run.LOST


def test_it_may_begin_before_all_that_ran_in_its_lane_is_known_to_be_over() -> None:
    world = World()
    first = world.submit()
    world.feed(m.Replied(first, "ok"))
    visit(world)
    world.feed(m.Idle(first))
    assert (world.record(first).run, world.record("theirs").run) == (Run.COMPLETED, Run.RUNNING)


def test_what_it_asks_is_for_its_own_client_to_answer() -> None:
    world = World(promises=OURS)
    visit(world)
    world.feed(m.Prompted("theirs", "? ", password=False))
    world.feed(m.Prompted("a silent request", "? ", password=False))
    assert world.record("theirs").run is Run.RUNNING
    assert world.did(m.SendInput) == []
    with pytest.raises(NotWaiting, match="another client's"):
        world.feed(m.SendStdin("theirs", ("x",)))
    world.feed(m.Idle("theirs"))
    world.feed(m.Prompted("theirs", "? ", password=False))
    assert world.did(m.SendInput) == []


def test_it_can_be_interrupted() -> None:
    world = World(promises=OURS)
    visit(world)
    world.feed(m.Interrupt("theirs"))
    assert world.did(m.SendInterrupt) == [m.SendInterrupt("theirs", MAIN)]
    world.feed(m.Published("theirs", "error", json.dumps({"ename": "KeyboardInterrupt"}).encode()))
    world.feed(m.Idle("theirs"))
    assert world.record("theirs").run is Run.INTERRUPTED


def test_the_next_broker_takes_it_up_and_never_sends_it() -> None:
    world = World(promises=OURS)
    visit(world)
    visit(world, "beside it")
    ours = world.submit(wait=0)
    again = world.restored()
    again.feed(m.KernelReady(OURS, adopted=True))
    again.feed(m.RollCall(frozenset({ours}), {"theirs": ("? ", False)}))
    assert again.sent() == []
    assert [again.record(id).run for id in ("theirs", "beside it", ours)] == [Run.RUNNING] * 3
    again.feed(m.Idle("theirs"))
    assert again.record("theirs").run is Run.COMPLETED


def test_it_does_not_take_the_news_that_the_state_was_lost() -> None:
    world = World(promises=OURS)
    world.feed(m.KernelGone(-9))
    world.feed(m.EnsureKernel())
    world.start_kernel()
    visit(world)
    assert world.session.record.state_was_lost is not None
    id = world.submit()
    assert world.record(id).state_was_lost is not None
    assert world.session.record.state_was_lost is None
