"""What a session decides, given what happens. No kernel, no clock, no disk."""

from __future__ import annotations

import pytest

from broker.core import messages as m
from broker.core.errors import NotWaiting, SessionBusy, StdinClosed, UnknownExecution
from broker.core.events import EventType, HandoverReason
from broker.core.lanes import MAIN
from broker.core.session import GRACE, INTERRUPT_AGAIN, INTERRUPT_PATIENCE, Session
from broker.core.state import Run

from .world import RAISED, STOPPED, World

# Running and ending


def test_an_execution_is_on_record_before_the_kernel_gets_it() -> None:
    world = World()
    id = world.submit("a = 1")
    kinds = [event.type for event in world.events if event.execution_id == id]
    assert kinds == [EventType.EXECUTION_QUEUED, EventType.EXECUTION_STARTED]
    assert world.did(m.SendExecute) == [m.SendExecute(id, "a = 1", MAIN)]


@pytest.mark.parametrize("order", ["reply first", "idle first"])
def test_it_is_over_when_reply_and_idle_were_both_seen(order: str) -> None:
    world = World()
    id = world.submit()
    signs: list[m.Input] = [m.Replied(id, "ok"), m.Idle(id)]
    first, second = signs if order == "reply first" else reversed(signs)
    world.feed(first)
    assert world.record(id).run is Run.RUNNING
    world.feed(second)
    assert world.record(id).run is Run.COMPLETED
    assert world.record(id).kernel_state == "preserved"


def test_code_that_raises_fails_with_its_error() -> None:
    world = World()
    id = world.submit()
    world.finish(id, RAISED)
    assert world.record(id).run is Run.FAILED
    assert world.record(id).error == RAISED


@pytest.mark.parametrize("seen", [m.Replied("x1", "ok"), m.Idle("x1")])
def test_a_missing_half_of_done_is_asked_for_and_then_a_gap(seen: m.Input) -> None:
    world = World()
    id = world.submit()
    world.feed(seen)
    world.pass_time(GRACE * 0.9)
    assert not world.did(m.Probe)
    world.pass_time(GRACE * 0.2)
    assert world.did(m.Probe) == [m.Probe(id, MAIN)]
    assert world.record(id).run is Run.RUNNING, "nothing is over before the kernel has said so"
    world.feed(m.ProbeAnswered(id))
    assert world.record(id).run is Run.COMPLETED
    assert len(world.said(EventType.GAP, id)) == 1


def test_output_that_still_flows_puts_off_the_question() -> None:
    world = World()
    id = world.submit()
    world.feed(m.Replied(id, "ok"))
    for _ in range(20):
        world.pass_time(GRACE * 0.9)
        world.print(id, "more\n")
    assert not world.did(m.Probe)


def test_output_after_the_end_is_still_its_output_and_goes_on_counting() -> None:
    world = World()
    id = world.submit()
    world.finish(id)
    ended_at = world.record(id).n
    world.print(id, "late\n")
    assert world.events[-1].execution_id == id
    assert world.events[-1].n == ended_at + 1
    assert world.record(id).lines == 1


def test_output_of_nobody_known_is_the_sessions() -> None:
    world = World()
    world.print("somebody-else", "hello\n")
    assert world.events[-1].type is EventType.OUTPUT
    assert world.events[-1].execution_id is None


def test_events_of_an_execution_are_counted_without_a_hole() -> None:
    world = World()
    first, second = world.submit(), world.submit(wait=1)
    world.print(first, "a\n")
    world.pass_time(2)
    world.finish(first)
    world.print(second, "b\n")
    world.finish(second)
    for id in (first, second):
        counted = [event.n for event in world.events if event.execution_id == id]
        assert counted == list(range(1, len(counted) + 1))


# Handover


def test_the_timer_hands_over_and_changes_nothing_in_the_kernel() -> None:
    world = World()
    id = world.submit(wait=30)
    world.effects.clear()
    world.pass_time(29)
    assert not world.record(id).detached
    world.pass_time(1)
    assert world.record(id).detached
    assert world.record(id).run is Run.RUNNING
    assert world.effects == []
    assert world.said(EventType.HANDOVER) == [{"reason": HandoverReason.TIMER}]


def test_it_hands_over_while_it_is_queued_too() -> None:
    world = World()
    world.submit(wait=None)
    queued = world.submit(wait=5)
    world.pass_time(5)
    assert world.record(queued).run is Run.QUEUED
    assert world.record(queued).detached


def test_wait_zero_hands_over_at_once_and_wait_null_never() -> None:
    world = World()
    at_once, never = world.submit(wait=0), world.submit(wait=None)
    assert world.record(at_once).detached
    world.pass_time(365 * 86400)
    assert not world.record(never).detached


def test_a_client_that_goes_away_detaches_and_nothing_more() -> None:
    world = World()
    id = world.submit(wait=None)
    world.feed(m.WaiterGone(id))
    world.feed(m.WaiterGone(id))
    assert world.said(EventType.HANDOVER) == [{"reason": HandoverReason.CLIENT_GONE}]
    assert world.record(id).run is Run.RUNNING


def test_an_execution_that_is_over_is_not_handed_over_any_more() -> None:
    world = World()
    id = world.submit(wait=5)
    world.finish(id)
    world.pass_time(10)
    assert not world.said(EventType.HANDOVER)


# The queue


def test_a_second_execution_queues_and_begins_when_the_first_is_over() -> None:
    world = World()
    first, second, third = world.submit(), world.submit(), world.submit()
    assert [effect.execution_id for effect in world.did(m.SendExecute)] == [first]
    assert world.session.place(second) == (1, first)
    assert world.session.place(third) == (2, second)
    world.finish(first)
    assert [effect.execution_id for effect in world.did(m.SendExecute)] == [second]
    assert world.session.place(third) == (1, second)


def test_a_detached_execution_still_has_the_only_lane_of_a_stock_kernel() -> None:
    world = World()
    first = world.submit(wait=0)
    second = world.submit(on_busy="concurrent")
    assert world.session.place(second) == (1, first)


def test_a_rejected_execution_leaves_no_trace() -> None:
    world = World()
    running = world.submit()
    before, events = world.snapshot(), len(world.events)
    with pytest.raises(SessionBusy) as error:
        world.submit(on_busy="reject")
    assert running in error.value.message
    assert world.snapshot() == before
    assert len(world.events) == events


def test_the_kernel_is_started_by_the_first_that_needs_it() -> None:
    world = World(ready=False)
    id = world.submit()
    assert world.did(m.StartKernel) == [m.StartKernel()]
    assert not world.did(m.SendExecute)
    assert world.session.place(id) == (1, None)
    world.start_kernel()
    assert [effect.execution_id for effect in world.did(m.SendExecute)] == [id]


def test_a_kernel_that_does_not_start_ends_what_waited_for_it() -> None:
    world = World(ready=False)
    id = world.submit()
    world.feed(m.KernelStartFailed("no such interpreter"))
    record = world.record(id)
    assert record.run is Run.LOST
    assert record.error is not None
    assert record.error["evalue"] == "no such interpreter"
    world.did(m.StartKernel)
    world.submit()
    assert world.did(m.StartKernel), "the next one tries again"


# Stdin


def test_a_prompt_ends_the_wait_and_an_answer_goes_on() -> None:
    world = World()
    id = world.submit()
    world.feed(m.Prompted(id, "Name: ", password=False))
    assert world.record(id).run is Run.AWAITING_INPUT
    assert world.record(id).detached
    assert world.feed(m.SendStdin(id, ("Ada",))) == m.StdinTaken(delivered=1, queued=0)
    assert world.did(m.SendInput) == [m.SendInput(id, "Ada")]
    assert world.record(id).run is Run.RUNNING
    assert world.record(id).input_request is None


def test_early_lines_answer_the_prompts_in_order_and_no_wait_ends() -> None:
    world = World()
    id = world.submit(stdin=("a", "b"))
    assert world.feed(m.SendStdin(id, ("c",))) == m.StdinTaken(delivered=0, queued=3)
    for _ in range(3):
        world.feed(m.Prompted(id, "", password=False))
    assert [effect.value for effect in world.did(m.SendInput)] == ["a", "b", "c"]
    assert not world.record(id).detached
    assert len(world.said(EventType.INTERACTIVE_SESSION_STARTED)) == 1


def test_a_password_is_in_no_event() -> None:
    world = World()
    id = world.submit(stdin=("hunter2",))
    world.feed(m.Prompted(id, "Password: ", password=True))
    world.feed(m.Prompted(id, "Again: ", password=True))
    world.feed(m.SendStdin(id, ("hunter2",)))
    assert [effect.value for effect in world.did(m.SendInput)] == ["hunter2", "hunter2"]
    assert "hunter2" not in repr(world.events)
    assert b"hunter2" not in world.snapshot()


def test_the_end_of_input_comes_after_the_lines_and_stays() -> None:
    world = World()
    id = world.submit()
    world.feed(m.SendStdin(id, ("last",), eof=True))
    for _ in range(3):
        world.feed(m.Prompted(id, "", password=False))
    assert [effect.value for effect in world.did(m.SendInput)] == ["last", None, None]
    with pytest.raises(StdinClosed):
        world.feed(m.SendStdin(id, ("more",)))


def test_input_for_what_is_over_is_refused_and_given_to_nobody() -> None:
    world = World()
    first = world.submit(stdin=("for the first",))
    second = world.submit()
    world.finish(first)
    with pytest.raises(NotWaiting):
        world.feed(m.SendStdin(first, ("late",)))
    world.feed(m.Prompted(second, "", password=False))
    assert not world.did(m.SendInput)
    assert world.record(second).run is Run.AWAITING_INPUT
    assert world.said(EventType.EXECUTION_FINISHED, first)[0]["stdin_unread"] == 1


def test_a_prompt_of_a_thread_whose_cell_is_over_gets_the_end_of_input() -> None:
    world = World()
    id = world.submit()
    world.finish(id)
    world.feed(m.Prompted(id, "anyone? ", password=False))
    assert world.did(m.SendInput) == [m.SendInput(id, None)]


def test_nobody_knows_an_unknown_execution() -> None:
    world = World()
    for input in (m.SendStdin("nope", ("x",)), m.Interrupt("nope"), m.Kill("nope"), m.ClearHistory("nope")):
        with pytest.raises(UnknownExecution):
            world.feed(input)


# The ladder


def test_an_interrupt_that_works_leaves_the_kernels_state() -> None:
    world = World()
    id = world.submit()
    world.feed(m.Interrupt(id))
    assert world.did(m.SendInterrupt) == [m.SendInterrupt(id, MAIN)]
    world.finish(id, STOPPED)
    assert world.record(id).run is Run.INTERRUPTED
    assert world.record(id).kernel_state == "preserved"
    world.pass_time(60)
    assert not world.did(m.SendInterrupt), "nobody is interrupted for another"


def test_an_interrupt_alone_never_kills() -> None:
    world = World()
    id = world.submit()
    world.feed(m.Interrupt(id))
    world.pass_time(INTERRUPT_PATIENCE * 3)
    assert 1 < len(world.did(m.SendInterrupt)) <= INTERRUPT_PATIENCE / INTERRUPT_AGAIN + 1
    assert not world.did(m.KillKernel)
    assert world.record(id).run is Run.RUNNING


def test_a_kill_goes_on_to_the_kernel_and_says_what_was_lost() -> None:
    world = World()
    id, queued = world.submit(), world.submit()
    world.feed(m.Kill(id))
    world.pass_time(INTERRUPT_PATIENCE + 1)
    assert world.did(m.KillKernel) == [m.KillKernel()]
    world.feed(m.KernelGone(-9))
    assert world.record(id).run is Run.KILLED
    assert world.record(id).kernel_state == "lost"
    assert world.record(queued).run is Run.KILLED, "it counted on a namespace that is gone"
    assert world.record(queued).started_at is None


def test_a_kill_that_an_interrupt_satisfies_kills_nothing() -> None:
    world = World()
    id = world.submit()
    world.feed(m.Kill(id))
    world.finish(id, STOPPED)
    world.pass_time(INTERRUPT_PATIENCE * 2)
    assert not world.did(m.KillKernel)
    assert world.record(id).run is Run.INTERRUPTED


def test_killing_what_is_queued_leaves_what_runs_alone() -> None:
    world = World()
    running, queued = world.submit(), world.submit()
    world.effects.clear()
    world.feed(m.Kill(queued))
    assert world.record(queued).run is Run.INTERRUPTED
    assert world.effects == []
    world.finish(running)
    assert not world.did(m.SendExecute)


def test_an_interrupt_without_a_reply_is_an_interrupt_all_the_same() -> None:
    world = World()
    id = world.submit()
    world.feed(m.Interrupt(id))
    world.feed(m.Idle(id))
    world.feed(m.ProbeAnswered(id))
    assert world.record(id).run is Run.INTERRUPTED


# The kernel's end


def test_a_kernel_that_dies_loses_what_ran_and_what_waited() -> None:
    world = World()
    id, queued = world.submit(), world.submit()
    world.feed(m.KernelGone(-11))
    for lost in (id, queued):
        assert world.record(lost).run is Run.LOST
        assert world.record(lost).exit_status == -11
        assert len(world.said(EventType.EXECUTION_FINISHED, lost)) == 1


def test_the_next_execution_gets_a_new_kernel_and_is_told_once() -> None:
    world = World()
    world.submit()
    world.feed(m.KernelGone(3))
    world.effects.clear()
    second = world.submit()
    assert world.did(m.StartKernel)
    world.start_kernel()
    assert "exit status 3" in (world.record(second).state_was_lost or "")
    world.finish(second)
    assert world.record(world.submit()).state_was_lost is None


def test_what_had_replied_before_the_kernel_died_ended_as_it_said() -> None:
    world = World()
    id = world.submit()
    world.feed(m.Replied(id, "ok"))
    world.feed(m.KernelGone(0))
    assert world.record(id).run is Run.COMPLETED
    assert world.record(id).kernel_state == "lost"


def test_a_restart_starts_another_kernel_when_the_first_is_gone() -> None:
    world = World()
    id = world.submit()
    world.feed(m.Restart())
    assert world.did(m.KillKernel)
    assert not world.did(m.StartKernel)
    world.feed(m.KernelGone(-9))
    assert world.record(id).run is Run.KILLED
    assert world.did(m.StartKernel)


def test_a_close_is_a_close_once_the_kernel_is_gone() -> None:
    world = World()
    world.feed(m.Close())
    assert world.did(m.KillKernel) == [m.KillKernel(politely=True)]
    assert not world.session.closed
    world.feed(m.KernelGone(0))
    assert world.session.closed


# A broker that comes back


def restored(world: World, *ids: str) -> World:
    """The same session in the next broker: all that it has is the records."""
    record = world.session.record
    again = World(Session(record, [(world.record(id), "code") for id in ids]))
    again.now = world.now + 10
    again.feed(m.Restored())
    return again


def test_a_running_execution_is_taken_back_with_a_gap_and_asked_for() -> None:
    world = World()
    id = world.submit()
    again = restored(world, id)
    again.feed(m.KernelReady({}, adopted=True))
    assert len(again.said(EventType.GAP, id)) == 1
    assert again.did(m.Probe) == [m.Probe(id, MAIN)]
    again.print(id, "still here\n")
    again.finish(id)
    assert again.record(id).run is Run.COMPLETED


def test_nobody_awaits_an_execution_any_more_that_an_earlier_broker_left() -> None:
    world = World()
    id, queued, detached = world.submit(), world.submit(wait=None), world.submit(wait=0)
    again = restored(world, id, queued, detached)
    assert [again.said(EventType.HANDOVER, each) for each in (id, queued)] == [[{"reason": "client_gone"}]] * 2
    assert again.said(EventType.HANDOVER, detached) == []


def test_what_waited_for_a_kernel_that_the_broker_was_starting_when_it_ended_gets_another() -> None:
    world = World(ready=False)
    id = world.submit()
    assert world.did(m.StartKernel)
    again = restored(world, id)
    again.feed(m.KernelGone(None))
    assert again.did(m.StartKernel)
    again.start_kernel()
    assert [effect.execution_id for effect in again.did(m.SendExecute)] == [id]


def test_what_waited_for_a_kernel_that_died_while_it_got_ready_is_lost() -> None:
    world = World(ready=False)
    id = world.submit()
    world.feed(m.KernelLaunched("k", 42, 1.0, "/k.json"))
    again = restored(world, id)
    again.feed(m.KernelGone(None))
    assert (again.record(id).run, again.record(id).started_at) == (Run.LOST, None)


def test_an_execution_that_ended_meanwhile_is_lost_though_its_kernel_is_not() -> None:
    world = World()
    id = world.submit()
    again = restored(world, id)
    again.feed(m.KernelReady({}, adopted=True))
    again.feed(m.ProbeAnswered(id))
    assert again.record(id).run is Run.LOST
    assert again.record(id).kernel_state == "preserved"


def test_an_open_prompt_can_be_answered_by_the_next_broker() -> None:
    world = World()
    id = world.submit()
    world.feed(m.Prompted(id, "Name: ", password=False))
    again = restored(world, id)
    again.feed(m.KernelReady({}, adopted=True))
    again.feed(m.SendStdin(id, ("Ada",)))
    assert again.did(m.SendInput) == [m.SendInput(id, "Ada")]


def test_a_queued_execution_begins_after_the_one_before_it_and_only_then() -> None:
    world = World()
    id, queued = world.submit(), world.submit()
    again = restored(world, id, queued)
    again.feed(m.KernelReady({}, adopted=True))
    assert not again.did(m.SendExecute)
    again.finish(id)
    assert [effect.execution_id for effect in again.did(m.SendExecute)] == [queued]


def test_input_that_was_only_in_memory_is_said_to_be_missing() -> None:
    world = World()
    id = world.submit(stdin=("a", "b"))
    again = restored(world, id)
    again.feed(m.KernelReady({}, adopted=True))
    assert any("2 lines of input" in gap["reason"] for gap in again.said(EventType.GAP, id))
    assert again.record(id).stdin_queued == 0


def test_a_kernel_that_died_meanwhile_loses_what_ran_in_it() -> None:
    world = World()
    id = world.submit()
    again = restored(world, id)
    again.feed(m.KernelGone(None))
    assert again.record(id).run is Run.LOST
    assert again.session.record.kernel_state == "dead"


# Prompts that an interrupt closes


def test_an_interrupt_closes_the_prompt_and_what_comes_then_is_for_the_next() -> None:
    world = World()
    id = world.submit()
    world.feed(m.Prompted(id, "Name: ", password=False))
    world.feed(m.Interrupt(id))
    assert world.record(id).run is Run.RUNNING
    assert world.feed(m.SendStdin(id, ("secret",))) == m.StdinTaken(delivered=0, queued=1)
    world.feed(m.Prompted(id, "Password: ", password=True))
    assert world.did(m.SendInput) == [m.SendInput(id, "secret")]
    assert "secret" not in repr(world.events)


def test_a_prompt_in_place_of_another_is_asked_as_what_it_is() -> None:
    world = World()
    id = world.submit()
    world.feed(m.Prompted(id, "Name: ", password=False))
    world.feed(m.Prompted(id, "Password: ", password=True))
    assert world.record(id).input_request == {"prompt": "Password: ", "password": True}
    assert world.said(EventType.INPUT_REPLY) == [{"interrupted": True, "queued": 0}]


def test_code_that_asks_again_after_an_interrupt_is_not_interrupted_once_more() -> None:
    world = World()
    id = world.submit()
    world.feed(m.Interrupt(id))
    world.did(m.SendInterrupt)
    world.feed(m.Prompted(id, "Really? ", password=False))
    world.pass_time(INTERRUPT_PATIENCE * 2)
    assert not world.did(m.SendInterrupt)


def test_a_late_prompt_gets_nothing_that_could_answer_another() -> None:
    world = World()
    late = world.submit()
    world.finish(late)
    asking = world.submit()
    world.feed(m.Prompted(asking, "Name: ", password=False))
    world.feed(m.Prompted(late, "anyone? ", password=False))
    assert not world.did(m.SendInput)


def test_nothing_begins_or_ends_in_a_session_that_is_closed() -> None:
    world = World()
    world.feed(m.Close())
    world.feed(m.KernelGone(0))
    world.effects.clear()
    for asked in (m.Close(), m.EnsureKernel(), m.Restart()):
        world.feed(asked)
    assert len(world.said(EventType.SESSION_CLOSED)) == 1
    assert world.effects == []
