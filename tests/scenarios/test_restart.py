"""The broker ends, by SIGTERM or SIGKILL, and starts again. What went on meanwhile, and what it makes of that."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest

from ..running import BrokerProcess, Wire, assert_whole, text_of
from .tools import Gate, gone, printed, true

TICKS = """
import time
i = 0
while {shut}:
    print('tick', i := i + 1, flush=True)
    time.sleep(0.005)
"""
TAKEN_BACK = ("running", "prompting", "ended", "idle", "ticking")
DIED = ("died", "died idle")


class Revived:
    """A broker that has ended and started again, and what was known before.

    In each session something else goes on: it is named by that. The session "running" has two executions queued
    behind what runs, "ended" and "died" have one.
    """

    def __init__(self, broker: BrokerProcess, directory: Path) -> None:
        self.broker = broker
        self.directory = directory
        self.gates = {name: Gate(directory) for name in ("running", "ended", "ticking", "thread")}
        self.first: dict[str, str] = {}
        """Of each session, the id of the execution that makes it what it is."""
        self.queued: dict[str, list[str]] = {}
        self.sessions: dict[str, dict[str, Any]] = {}
        self.executions: list[str] = []
        self.events: dict[str, list[dict[str, Any]]] = {}

    def mark(self, text: str) -> str:
        """Code that leaves a mark each time it runs."""
        return f"open({str(self.directory / 'marks')!r}, 'a').write({text + chr(10)!r})\n"

    def marks(self, name: str) -> list[str]:
        """The marks of a session's code, in the order in which it ran."""
        return [line for line in (self.directory / "marks").read_text().splitlines() if line.startswith(f"{name} ")]

    async def prepare(self) -> None:
        """Let everything go on that is to go on when the broker ends."""
        async with self.broker.connect() as wire:
            await asyncio.gather(*(self._prepare(wire, name) for name in (*TAKEN_BACK, *DIED, "closed")))
            for name, count in (("running", 2), ("ended", 1), ("died", 1)):
                for i in range(count):
                    code = self.mark(f"{name} queued {i}") + f"print('queued {i}')"
                    execution = await wire.execute(code, session=name, wait=0, on_busy="queue")
                    self.queued.setdefault(name, []).append(execution["execution_id"])
            for name in (*TAKEN_BACK, *DIED, "closed"):
                session = await wire.call("get_session", session=self.sessions[name]["session_id"])
                self.sessions[name] = session
            listed = await wire.call("list_executions")
            self.executions = [each["execution_id"] for each in listed["executions"]]
            for execution_id in self.executions:
                self.events[execution_id] = await wire.events(execution_id)

    async def _prepare(self, wire: Wire, name: str) -> None:
        self.sessions[name] = await wire.call("create_session", name=name)
        mark = self.mark(f"{name} first")
        code = {
            "running": lambda: f"{mark}print('before')\n{self.gates['running'].wait}print('after')",
            "prompting": lambda: f"{mark}print('hello', input('name? '))\nprint('and', input('other? '))",
            "ended": lambda: f"{mark}print('before')\n{self.gates['ended'].wait}{self.mark('ended last')}",
            "ticking": lambda: mark + TICKS.format(shut=self.gates["ticking"].shut),
            "died": lambda: f"{mark}print('before')\nimport time; time.sleep(86400)",
        }.get(name)
        if code:
            # Awaited by a client, all but one: that one goes down with the broker.
            wait = 0 if name == "running" else None
            call = wire.begin("execute", code=code(), session=name, wait=wait)
            call.add_done_callback(lambda task: task.exception())
            await true(lambda: asyncio.sleep(0, (self.directory / "marks").exists() and self.marks(name)))
            (execution,) = (await wire.call("list_executions", session=name))["executions"]
            if name != "prompting":
                await wire.until(execution["execution_id"], lambda e: e["lines"] > 0)
        else:
            execution = await wire.execute(
                "kept = 'from before'\nimport threading\n"
                f"def later():\n    {self.gates['thread'].wait}    print('from behind', flush=True)\n"
                "threading.Thread(target=later, daemon=True).start()\n"
                "print('done')",
                session=name,
                wait=None,
            )
        if name == "closed":
            await wire.call("close_session", session=name)
        self.first[name] = execution["execution_id"]

    def meanwhile(self) -> None:
        """No broker runs. One execution ends, two kernels die."""
        self.gates["ended"].open()
        for name in DIED:
            os.kill(self.sessions[name]["kernel_pid"], signal.SIGKILL)

    async def meanwhile_is_over(self) -> None:
        await true(lambda: asyncio.sleep(0, "ended last" in self.marks("ended")))
        await true(lambda: asyncio.sleep(0, all(gone(self.sessions[name]["kernel_pid"]) for name in DIED)))


def run(coroutine: Any) -> Any:
    """Run a coroutine from a fixture of the whole module, beside the event loops of the tests."""
    with ThreadPoolExecutor(1) as executor:
        return executor.submit(asyncio.run, coroutine).result()


@pytest.fixture(scope="module", params=[signal.SIGTERM, signal.SIGKILL], ids=["SIGTERM", "SIGKILL"])
def revived(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Revived]:
    scenario = Revived(BrokerProcess("--pool-size=0"), tmp_path_factory.mktemp("revived"))
    broker = scenario.broker
    try:
        broker.start()
        run(scenario.prepare())
        status = broker.stop(request.param)
        assert status == (0 if request.param == signal.SIGTERM else -signal.SIGKILL)
        for name in (*TAKEN_BACK, *DIED):
            assert psutil.pid_exists(scenario.sessions[name]["kernel_pid"])
        scenario.meanwhile()
        run(scenario.meanwhile_is_over())
        broker.start()
        yield scenario
    finally:
        broker.destroy()


@pytest.fixture
async def again(revived: Revived) -> Any:
    """A connection to the broker that has started again."""
    async with revived.broker.connect() as connection:
        yield connection


async def test_sessions_executions_and_history_are_there(revived: Revived, again: Wire) -> None:
    listed = await again.call("list_sessions")
    assert {each["session_id"]: each["name"] for each in listed["sessions"]} == {
        revived.sessions[name]["session_id"]: name for name in (*TAKEN_BACK, *DIED)
    }
    executions = await again.call("list_executions")
    assert [each["execution_id"] for each in executions["executions"]] == revived.executions
    for execution_id, before in revived.events.items():
        events = await again.events(execution_id)
        assert events[: len(before)] == before
        assert_whole(events)
    closed = await again.call("get_session", session=revived.sessions["closed"]["session_id"])
    assert closed == revived.sessions["closed"]
    assert (await again.call("get_execution", execution_id=revived.first["closed"]))["text"] == "done\n"


@pytest.mark.parametrize("name", TAKEN_BACK)
async def test_a_kernel_that_runs_is_taken_back_under_its_id(revived: Revived, again: Wire, name: str) -> None:
    before, after = revived.sessions[name], await again.call("get_session", session=name)
    for field in ("session_id", "kernel_id", "kernel_pid", "connection_file", "created_at", "working_directory"):
        assert after[field] == before[field]
    assert after["kernel_state"] in ("idle", "busy")


@pytest.mark.parametrize("name", ["running", "prompting", "ended", "ticking"])
async def test_nothing_is_missing_and_that_its_client_is_gone_is_recorded(
    revived: Revived, again: Wire, name: str
) -> None:
    events = await again.events(revived.first[name])
    assert "gap" not in [event["type"] for event in events]
    reasons = [event["reason"] for event in events if event["type"] == "handover"]
    expected = {"running": "requested", "prompting": "input"}.get(name, "client_gone")
    assert reasons == [expected]


async def test_the_namespace_is_there(revived: Revived, again: Wire) -> None:
    execution = await again.execute("print(kept)", session="idle", wait=None)
    assert (execution["text"], execution["hint"]) == ("from before\n", None)


async def test_an_open_prompt_can_be_answered_and_so_can_the_next(revived: Revived, again: Wire) -> None:
    execution_id = revived.first["prompting"]
    execution = await again.call("get_execution", execution_id=execution_id)
    assert (execution["state"], execution["input_request"]["prompt"]) == ("awaiting_input", "name? ")
    taken = await again.call("send_stdin", execution_id=execution_id, data="Ada")
    assert taken == {"delivered": 1, "queued": 0}
    await again.until(execution_id, lambda e: e["input_request"] and e["input_request"]["prompt"] == "other? ")
    await again.call("send_stdin", execution_id=execution_id, data="Grace")
    done = await again.done(execution_id)
    assert done["state"] == "completed"
    assert text_of(await again.events(execution_id)) == "hello Ada\nand Grace\n"
    assert revived.marks("prompting") == ["prompting first"]


async def test_what_was_printed_meanwhile_and_from_then_on_is_there_without_a_hole(
    revived: Revived, again: Wire
) -> None:
    execution_id = revived.first["ticking"]
    seq = revived.events[execution_id][-1]["seq"]
    subscription = await again.call("subscribe", execution_id=execution_id, after=seq)
    lines = (await again.call("get_execution", execution_id=execution_id))["lines"]
    await again.until(execution_id, lambda e: e["lines"] > lines + 50)
    revived.gates["ticking"].open()
    execution = await again.done(execution_id)
    assert execution["state"] == "completed"
    await again.event(lambda e: e["type"] == "execution_finished" and e["execution_id"] == execution_id)
    numbers = [int(number) for number in text_of(await again.events(execution_id)).split("tick ")[1:]]
    assert len(numbers) > 50
    assert numbers == list(range(1, numbers[-1] + 1))
    mine = [n["params"] for n in again.notifications if n["method"] == "event"]
    live = [each["event"] for each in mine if each["subscription"] == subscription["subscription"]]
    assert text_of(live) == text_of(await again.events(execution_id, after=seq))


async def test_what_runs_goes_on_and_what_was_queued_runs_once_in_order(revived: Revived, again: Wire) -> None:
    execution_id, queued = revived.first["running"], revived.queued["running"]
    states = [(await again.call("get_execution", execution_id=each))["state"] for each in (execution_id, *queued)]
    assert states == ["running", "queued", "queued"]
    asynchronous = await again.call("list_async_executions")
    assert {execution_id, *queued} <= {each["execution_id"] for each in asynchronous["executions"]}
    revived.gates["running"].open()
    execution = await again.done(execution_id)
    assert (execution["state"], execution["text"]) == ("completed", "before\nafter\n")
    for i, each in enumerate(queued):
        done = await again.done(each)
        assert (done["state"], done["text"]) == ("completed", f"queued {i}\n")
    assert revived.marks("running") == ["running first", "running queued 0", "running queued 1"]


async def test_what_ended_meanwhile_is_over_as_it_ended_and_is_never_run_again(revived: Revived, again: Wire) -> None:
    execution = await again.done(revived.first["ended"])
    assert (execution["state"], execution["kernel_state"]) == ("completed", "preserved")
    assert execution["text"] == "before\n11\n"
    (queued,) = revived.queued["ended"]
    assert (await again.done(queued))["text"] == "queued 0\n"
    assert revived.marks("ended") == ["ended first", "ended last", "ended queued 0"]


async def test_what_ran_in_a_kernel_that_died_meanwhile_is_lost(revived: Revived, again: Wire) -> None:
    execution = await again.done(revived.first["died"])
    assert (execution["state"], execution["kernel_state"], execution["text"]) == ("lost", "lost", "before\n")
    (queued,) = revived.queued["died"]
    never = await again.done(queued)
    assert (never["state"], never["started_at"]) == ("lost", None)
    assert revived.marks("died") == ["died first"]


@pytest.mark.parametrize("name", DIED)
async def test_a_session_whose_kernel_died_meanwhile_gets_a_new_one_and_says_so(
    revived: Revived, again: Wire, name: str
) -> None:
    assert (await again.call("get_session", session=name))["kernel_state"] == "dead"
    execution = await again.execute("print('kept' in globals())", session=name, wait=None)
    assert execution["text"] == "False\n"
    assert "without the variables of before" in execution["hint"]


async def test_output_from_behind_still_belongs_to_the_execution_that_began_it(revived: Revived, again: Wire) -> None:
    revived.gates["thread"].open()
    await printed(again, revived.first["idle"], "from behind")
    assert_whole(await again.events(revived.first["idle"]))


async def test_at_the_end_no_kernel_and_no_file_is_left(revived: Revived, again: Wire) -> None:
    """The last test of this file: it closes everything."""
    assert {process.pid for process in revived.broker.kernels()} == {
        (await again.call("get_session", session=name))["kernel_pid"] for name in (*TAKEN_BACK, *DIED)
    }
    for name in (*TAKEN_BACK, *DIED):
        assert (await again.call("close_session", session=name))["kernel_state"] == "closed"
    assert revived.broker.kernels() == []
    assert list((revived.broker.root / "run" / "broker").glob("*/*")) == []
