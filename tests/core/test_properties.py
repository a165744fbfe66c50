"""Whatever happens, in whatever order: what must always hold."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from broker.core import messages as m
from broker.core.errors import BrokerError
from broker.core.events import EventType
from broker.core.state import Run

from .world import RAISED, World

IDS = st.sampled_from(["x1", "x2", "x3"])
INPUTS = st.one_of(
    st.builds(m.WaiterGone, IDS),
    st.builds(m.SendStdin, IDS, st.lists(st.just("line"), max_size=2).map(tuple), st.booleans()),
    st.builds(m.Interrupt, IDS),
    st.builds(m.Kill, IDS),
    st.builds(m.ClearHistory, IDS),
    st.builds(m.Restart),
    st.builds(m.Restored),
    st.builds(m.EnsureKernel),
    st.builds(m.KernelReady, st.just({})),
    st.builds(m.KernelReady, st.just({}), st.just(True)),
    st.builds(m.KernelStartFailed, st.just("no")),
    st.builds(m.KernelGone, st.sampled_from([None, 0, -9])),
    st.builds(m.Published, IDS, st.just("stream"), st.just(b'{"name":"stdout","text":"a\\n"}')),
    st.builds(m.Idle, IDS),
    st.builds(m.Replied, IDS, st.sampled_from(["ok", "error"]), st.sampled_from([None, RAISED])),
    st.builds(m.Prompted, IDS, st.just("?"), st.booleans()),
    st.builds(m.ProbeAnswered, IDS),
)
STEPS = st.lists(st.one_of(INPUTS, st.just("submit"), st.just("submit"), st.floats(0, 40)), max_size=40)


@settings(max_examples=300, deadline=None)
@given(STEPS)
def test_nothing_that_can_happen_breaks_what_is_promised(steps: list[m.Input | str | float]) -> None:
    world = World()
    submitted = []
    for step in steps:
        if isinstance(step, str):
            submitted.append(world.submit(wait=5))
        elif isinstance(step, float):
            world.pass_time(step)
        else:
            before, events = world.snapshot(), len(world.events)
            try:
                world.feed(step)
            except BrokerError:
                assert world.snapshot() == before, "a refused input changes nothing"
                assert len(world.events) == events
    for id in submitted:
        counted = [event.n for event in world.events if event.execution_id == id]
        assert counted == list(range(1, len(counted) + 1)), "n has no hole"
        ends = world.said(EventType.EXECUTION_FINISHED, id)
        assert len(ends) == (1 if world.record(id).run.ended else 0), "an end is said once"
        assert len(world.said(EventType.EXECUTION_STARTED, id)) <= 1, "nothing begins twice"
        assert len(world.said(EventType.HANDOVER, id)) <= 1
    running = [id for id in world.session.live if world.record(id).run.in_kernel]
    assert len(running) <= 1, "a lane holds one request at a time"
    sent = [effect.execution_id for effect in world.did(m.SendExecute)]
    assert len(sent) == len(set(sent)), "no code is sent twice"
    assert all(world.record(id).run is not Run.QUEUED for id in sent)
