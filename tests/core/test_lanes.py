"""Who runs beside whom, in which lane, and what those that wait are told they wait for."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from broker.core import messages as m
from broker.core.errors import SessionBusy
from broker.core.events import EventType
from broker.core.lanes import MAIN, MAX_LANES
from broker.core.promises import CONCURRENT
from broker.core.session import INTERRUPT_PATIENCE
from broker.core.state import Run
from broker.core.turns import Waits
from broker.views.replies import Replies

from .world import STOPPED, World


def side_by_side() -> World:
    return World(promises={CONCURRENT: True})


def test_a_detached_execution_lets_the_next_one_run_beside_it() -> None:
    world = side_by_side()
    detached = world.submit(wait=0)
    assert world.sent() == [(detached, MAIN)]
    beside = world.submit()
    assert world.sent() == [(beside, "lane-1")]
    assert world.said(EventType.EXECUTION_STARTED, beside) == [{"lane": "lane-1"}]


def test_behind_an_execution_that_somebody_awaits_the_next_one_queues() -> None:
    world = side_by_side()
    first, second = world.submit(), world.submit()
    assert world.session.place(second) == (1, first)
    assert world.session.waits(second) is Waits.TURN
    world.finish(first)
    assert world.sent() == [(first, MAIN), (second, MAIN)]
    assert world.session.waits(second) is None


@pytest.mark.parametrize("cause", ["timer", "prompt", "client gone"])
def test_a_handover_begins_the_next_one_in_the_same_step(cause: str) -> None:
    world = side_by_side()
    first, second, third = world.submit(wait=30), world.submit(wait=None), world.submit(wait=None)
    world.did(m.SendExecute)
    if cause == "timer":
        world.pass_time(30)
    else:
        world.feed(m.Prompted(first, "? ", password=False) if cause == "prompt" else m.WaiterGone(first))
    assert world.sent() == [(second, "lane-1")]
    assert world.session.place(third) == (1, second), (
        "it waits for the one that is awaited, not for the first that runs"
    )


def test_what_asked_to_queue_waits_until_nothing_runs() -> None:
    world = side_by_side()
    detached, beside = world.submit(wait=0), world.submit(wait=0)
    alone = world.submit(on_busy="queue")
    after = world.submit()
    world.did(m.SendExecute)
    assert world.session.place(alone) == (1, detached)
    assert world.session.waits(alone) is Waits.ALONE
    assert world.session.place(after) == (2, alone)
    world.finish(detached)
    assert not world.sent()
    world.finish(beside)
    assert world.sent() == [(alone, MAIN)]
    world.finish(alone)
    assert world.sent() == [(after, MAIN)]


def test_a_concurrent_one_waits_for_nobody_and_overtakes_the_queue() -> None:
    world = side_by_side()
    awaited, queued = world.submit(wait=None), world.submit(wait=None)
    world.did(m.SendExecute)
    concurrent = world.submit(on_busy="concurrent")
    assert world.sent() == [(concurrent, "lane-1")]
    world.finish(awaited)
    assert not world.sent(), "now it waits for the concurrent one, which is awaited too"
    assert world.session.place(queued) == (1, concurrent)
    world.finish(concurrent)
    assert world.sent() == [(queued, MAIN)]


def test_what_came_first_begins_first_when_the_kernel_is_ready() -> None:
    world = World(ready=False, promises={CONCURRENT: True})
    first, concurrent = world.submit(), world.submit(on_busy="concurrent")
    assert (world.session.place(first), world.session.waits(first)) == ((1, None), Waits.KERNEL)
    world.start_kernel()
    assert world.sent() == [(first, MAIN), (concurrent, "lane-1")]


def test_a_rejected_one_is_taken_beside_what_is_detached() -> None:
    world = side_by_side()
    detached = world.submit(wait=0)
    taken = world.submit(on_busy="reject")
    assert world.sent() == [(detached, MAIN), (taken, "lane-1")]
    with pytest.raises(SessionBusy) as error:
        world.submit(on_busy="reject")
    assert taken in error.value.message
    assert error.value.data == {"running": [detached, taken], "queued": []}


def test_a_rejected_one_is_refused_behind_one_that_is_queued() -> None:
    world = side_by_side()
    world.submit(wait=0)
    world.submit(on_busy="queue", wait=0)
    with pytest.raises(SessionBusy):
        world.submit(on_busy="reject")


def test_a_free_lane_is_used_again_and_main_first() -> None:
    world = side_by_side()
    a, b, c = (world.submit(wait=0) for _ in range(3))
    assert [lane for _, lane in world.sent()] == [MAIN, "lane-1", "lane-2"]
    world.finish(b)
    d = world.submit(wait=0)
    world.finish(a)
    e = world.submit(wait=0)
    assert world.sent() == [(d, "lane-1"), (e, MAIN)]
    assert world.record(c).run is Run.RUNNING


def test_no_more_run_at_once_than_there_are_lanes() -> None:
    world = side_by_side()
    ids = [world.submit(wait=0) for _ in range(MAX_LANES)]
    assert len({lane for _, lane in world.sent()}) == MAX_LANES
    waiting, concurrent = world.submit(), world.submit(on_busy="concurrent")
    assert world.session.place(waiting) == (1, ids[0])
    assert world.session.waits(waiting) is world.session.waits(concurrent) is Waits.LANE
    with pytest.raises(SessionBusy):
        world.submit(on_busy="reject")
    world.finish(ids[7])
    assert world.sent() == [(waiting, "lane-7")]
    world.finish(ids[0])
    assert world.sent() == [(concurrent, MAIN)]


def test_a_kernel_that_cannot_do_it_runs_one_at_a_time_and_says_why() -> None:
    world = World()
    detached = world.submit(wait=0)
    auto, concurrent, queued = world.submit(), world.submit(on_busy="concurrent"), world.submit(on_busy="queue")
    assert world.sent() == [(detached, MAIN)]
    assert world.session.place(auto) == (1, detached)
    assert [world.session.waits(id) for id in (auto, concurrent, queued)] == [
        Waits.ONE_AT_A_TIME,
        Waits.ONE_AT_A_TIME,
        Waits.TURN,
    ]
    for id in (detached, auto, concurrent):
        world.finish(id)
    assert world.sent() == [(auto, MAIN), (concurrent, MAIN), (queued, MAIN)]


def test_a_hint_says_why_one_waits_that_would_not_elsewhere() -> None:
    world = World()

    def hint(id: str) -> str:
        broker: Any = SimpleNamespace(
            place=lambda record: world.session.place(record.execution_id),
            waits=lambda record: world.session.waits(record.execution_id),
        )
        return Replies(broker).hint(world.record(id)) or ""

    detached = world.submit(wait=0)
    auto, queued = world.submit(), world.submit(on_busy="queue")
    assert f"behind execution {detached} (this kernel cannot run them side by side" in hint(auto)
    assert hint(queued).startswith(f"It is queued behind execution {auto} and will run by itself.")


def test_what_waits_for_a_kernel_to_be_taken_back_begins_when_it_is() -> None:
    world = side_by_side()
    id = world.submit(wait=0)
    again = world.restored()
    next = again.submit(wait=0)
    assert not again.sent()
    with pytest.raises(SessionBusy):
        again.submit(on_busy="reject")
    assert again.session.record.kernel_state == "ready", "a broker that dies now leaves it as it found it"
    again.feed(m.KernelReady(again.promises, adopted=True))
    assert again.sent() == [(next, "lane-1")]
    assert again.record(id).run is Run.RUNNING


def test_an_interrupt_is_sent_to_its_own_lane_and_ends_one() -> None:
    world = side_by_side()
    other, id = world.submit(wait=0), world.submit()
    world.feed(m.Interrupt(id))
    assert world.did(m.SendInterrupt) == [m.SendInterrupt(id, "lane-1")]
    world.finish(id, STOPPED)
    assert world.record(id).run is Run.INTERRUPTED
    assert world.record(other).run is Run.RUNNING


def test_the_last_rung_ends_the_others_in_that_kernel_and_says_for_whom() -> None:
    world = side_by_side()
    other, id = world.submit(wait=0), world.submit(wait=0)
    world.feed(m.Kill(id))
    world.pass_time(INTERRUPT_PATIENCE)
    assert world.did(m.KillKernel) == [m.KillKernel()]
    world.feed(m.KernelGone(-9))
    for ended in (other, id):
        assert (world.record(ended).run, world.record(ended).kernel_state) == (Run.KILLED, "lost")
        assert id in (world.record(ended).reason or "")


def test_one_prompt_of_many_gets_the_answer() -> None:
    world = side_by_side()
    first, second = world.submit(wait=0), world.submit(wait=0)
    for id in (first, second):
        world.feed(m.Prompted(id, "? ", password=False))
    world.feed(m.SendStdin(second, ("for the second",)))
    assert world.did(m.SendInput) == [m.SendInput(second, "for the second")]
    assert world.record(first).run is Run.AWAITING_INPUT


def test_the_next_broker_finds_every_lane_as_it_was() -> None:
    world = side_by_side()
    a, b, c = (world.submit(wait=0) for _ in range(3))
    world.finish(b)
    again = world.restored()
    again.feed(m.KernelReady(again.promises, adopted=True))
    beside = again.submit(wait=0)
    assert again.sent() == [(beside, "lane-1")]
    again.finish(a)
    assert again.record(c).lane == "lane-2"


def test_a_close_during_a_kill_is_a_close() -> None:
    world = side_by_side()
    id = world.submit()
    world.feed(m.Kill(id))
    world.feed(m.Close())
    world.feed(m.Restart())
    world.pass_time(INTERRUPT_PATIENCE * 2)
    assert len(world.did(m.KillKernel)) == 1
    world.feed(m.KernelGone(-9))
    assert world.session.closed


def test_a_close_of_a_kernel_that_does_not_start_is_a_close() -> None:
    world = World(ready=False)
    world.submit()
    world.feed(m.Close())
    world.feed(m.KernelStartFailed("no"))
    assert world.session.closed
