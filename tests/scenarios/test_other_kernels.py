"""A kernel of somebody else's, in another language, through the same API: bash_kernel, as it is.

What it cannot promise, it does without, and that is said where it matters.
"""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import psutil
import pytest

from ..kernelspecs import install
from ..running import BrokerProcess, CallFailed, Wire, assert_whole, text_of
from .tools import Gate, detached, gone, kernel_pid, stop_all, true


def install_bash(broker: BrokerProcess) -> None:
    """The kernelspec that ``python -m bash_kernel.install`` writes."""
    argv = [sys.executable, "-m", "bash_kernel", "-f", "{connection_file}"]
    install(broker, "bash", argv, language="bash", env={"PS1": "$"})


@pytest.fixture
async def bash(broker: BrokerProcess, wire: Wire) -> AsyncIterator[str]:
    """A session with a bash kernel. All tests here share it, for bash_kernel takes seconds to start."""
    if not (broker.root / "data" / "kernels" / "bash").exists():
        install_bash(broker)
        await wire.call("create_session", name="bash", kernel="bash")
    yield "bash"
    await stop_all(wire, "bash")


def until(gate: Gate) -> str:
    """A command of bash's: wait until a gate is open."""
    return f"until [ -e {shlex.quote(str(gate.path))} ]; do sleep 0.02; done"


async def test_it_is_listed_and_its_session_promises_nothing(wire: Wire, bash: str) -> None:
    listed = (await wire.call("list_kernelspecs"))["kernelspecs"]
    (spec,) = [spec for spec in listed if spec["name"] == "bash"]
    assert spec["language"] == "bash"
    session = await wire.call("get_session", session=bash)
    assert (session["kernel"], session["promises"]) == ("bash", {})
    ours = await wire.call("create_session", name=f"{bash}-python")
    assert all(ours["promises"].values())
    assert {"nothing_lost", "concurrent", "interrupts_one"} <= set(ours["promises"])
    await wire.call("close_session", session=f"{bash}-python")


async def test_output_arrives_while_it_runs(wire: Wire, bash: str, tmp_path: Path) -> None:
    gate = Gate(tmp_path)
    running = await detached(wire, bash, f"echo begun; {until(gate)}; echo over >&2; printf 'no newline'")
    assert (await wire.call("get_execution", execution_id=running))["state"] == "running"
    gate.open()
    execution = await wire.done(running)
    # bash_kernel has one stream, for bash's stdout and stderr, and ends every line.
    assert (execution["state"], execution["text"]) == ("completed", "begun\nover\nno newline\n")
    assert [output["name"] for output in execution["outputs"]] == ["stdout"]
    assert_whole(await wire.events(running))


async def test_every_line_of_a_longer_output_is_in_the_log(wire: Wire, bash: str) -> None:
    execution = await wire.execute("seq 1 3000", session=bash, wait=None)
    events = await wire.events(execution["execution_id"])
    assert_whole(events)
    assert text_of(events).split() == [str(i) for i in range(1, 3001)]


async def test_variables_and_the_directory_stay_from_one_execution_to_the_next(
    wire: Wire, bash: str, tmp_path: Path
) -> None:
    await wire.execute(f"name=Ada; cd {shlex.quote(str(tmp_path))}; greet() {{ echo Hello, $1; }}", session=bash)
    execution = await wire.execute('greet "$name"; pwd', session=bash)
    assert execution["text"] == f"Hello, Ada\n{tmp_path}\n"


@pytest.mark.parametrize(("code", "status"), [("false", "1"), ("(exit 3)", "3"), ("no-such-command", "127")])
async def test_an_exit_status_that_is_not_0_is_a_failure_with_that_status(
    wire: Wire, bash: str, code: str, status: str
) -> None:
    execution = await wire.execute(f"echo before; {code}", session=bash)
    assert (execution["state"], execution["kernel_state"]) == ("failed", "preserved")
    assert execution["error"]["evalue"] == status
    assert execution["text"].startswith("before\n")
    assert (await wire.execute("true", session=bash))["state"] == "completed"


async def test_it_hands_over_on_time_and_is_awaited_to_its_end(wire: Wire, bash: str, tmp_path: Path) -> None:
    gate = Gate(tmp_path)
    execution = await wire.execute(f"echo begun; {until(gate)}; echo end", session=bash, wait=1)
    assert (execution["state"], execution["detached"], execution["text"]) == ("running", True, "begun\n")
    assert "Do not run the code again" in execution["hint"]
    gate.open()
    done = await wire.call("wait", execution_id=execution["execution_id"], wait=None)
    assert (done["state"], done["text"]) == ("completed", "begun\nend\n")


@pytest.mark.parametrize("on_busy", ["auto", "concurrent"])
async def test_behind_a_detached_execution_the_next_one_queues_and_says_why(
    wire: Wire, bash: str, tmp_path: Path, on_busy: str
) -> None:
    gate = Gate(tmp_path)
    running = await detached(wire, bash, f"echo begun; {until(gate)}; order=first")
    queued = await wire.execute("echo after $order", session=bash, wait=0.5, on_busy=on_busy)
    assert (queued["state"], queued["queue"]) == ("queued", {"position": 1, "behind": running})
    assert "this kernel cannot run them side by side; another session can" in queued["hint"]
    gate.open()
    assert (await wire.done(queued["execution_id"]))["text"] == "after first\n"


@pytest.mark.parametrize("busy", ["sleep 600", "while :; do :; done"])
async def test_an_interrupt_ends_it_and_bash_lives_on_with_its_variables(wire: Wire, bash: str, busy: str) -> None:
    await wire.execute("kept=before", session=bash)
    running = await detached(wire, bash, f"echo begun; {busy}; echo never")
    queued = await wire.execute("echo $kept", session=bash, wait=0, on_busy="queue")
    interrupted = await wire.call("interrupt", execution_id=running)
    assert (interrupted["state"], interrupted["kernel_state"]) == ("interrupted", "preserved")
    assert "never" not in interrupted["text"]
    after = await wire.done(queued["execution_id"])
    assert (after["state"], after["text"]) == ("completed", "before\n")


async def test_an_interrupt_of_what_is_queued_leaves_the_running_one_alone(
    wire: Wire, bash: str, tmp_path: Path
) -> None:
    gate = Gate(tmp_path)
    running = await detached(wire, bash, f"echo begun; {until(gate)}; echo end")
    queued = await wire.execute("echo never", session=bash, wait=0)
    assert (await wire.call("interrupt", execution_id=queued["execution_id"]))["state"] == "interrupted"
    assert (await wire.call("get_execution", execution_id=running))["state"] == "running"
    gate.open()
    assert (await wire.done(running))["text"] == "begun\nend\n"
    never = await wire.done(queued["execution_id"])
    assert (never["text"], never["started_at"]) == ("", None)


async def test_read_reaches_no_prompt_so_input_waits_and_an_interrupt_frees_the_session(wire: Wire, bash: str) -> None:
    # bash_kernel never asks for input: bash's own `read` waits at a terminal that nobody types at.
    running = await detached(wire, bash, "echo begun; read name; echo Hello, $name")
    sent = await wire.call("send_stdin", execution_id=running, data="Ada")
    assert (sent["delivered"], sent["queued"]) == (0, 1)
    interrupted = await wire.call("interrupt", execution_id=running)
    assert (interrupted["state"], interrupted["kernel_state"]) == ("interrupted", "preserved")
    (finish,) = [event for event in await wire.events(running) if event["type"] == "execution_finished"]
    assert finish["stdin_unread"] == 1
    assert (await wire.execute("echo free", session=bash))["text"] == "free\n"


async def test_its_session_is_exported_as_a_notebook_of_its_language(
    broker: BrokerProcess, wire: Wire, bash: str
) -> None:
    await wire.execute("echo a cell of bash", session=bash)
    session = await wire.call("get_session", session=bash)
    status, _, body = broker.request(f"api/broker/v1/sessions/{session['session_id']}/notebook")
    notebook = json.loads(body)
    assert status == 200
    assert notebook["metadata"]["kernelspec"]["name"] == "bash"
    cell = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"][-1]
    assert ("".join(cell["source"]), "".join(cell["outputs"][0]["text"])) == ("echo a cell of bash", "a cell of bash\n")


async def test_a_kill_of_what_no_interrupt_reaches_ends_the_kernel_and_says_so(wire: Wire, bash: str) -> None:
    await wire.execute("kept=before", session=bash)
    pid = await kernel_pid(wire, bash)
    running = await detached(wire, bash, "echo begun; sleep 600")
    # A stopped process takes no signal but one.
    psutil.Process(pid).suspend()
    killed = await wire.call("kill", execution_id=running)
    assert [(one["state"], one["kernel_state"]) for one in killed["killed"]] == [("killed", "lost")]
    assert gone(pid)
    after = await wire.execute('echo "[$kept]"', session=bash, wait=None)
    assert after["text"] == "[]\n"
    assert "new kernel" in after["hint"]


async def test_its_death_is_noticed_with_what_it_had_said_and_a_gap(wire: Wire, bash: str) -> None:
    running = await detached(wire, bash, "echo begun; sleep 600")
    bash_itself = psutil.Process(await kernel_pid(wire, bash)).children(recursive=True)
    psutil.Process(await kernel_pid(wire, bash)).kill()
    execution = await wire.done(running)
    assert (execution["state"], execution["kernel_state"], execution["exit_status"]) == ("lost", "lost", -9)
    assert execution["text"] == "begun\n"
    events = await wire.events(running)
    assert_whole(events)
    assert [event["type"] for event in events][-2:] == ["gap", "execution_finished"]
    # Its children go with it.
    await true(lambda: all(gone(process.pid) for process in bash_itself))
    after = await wire.execute("echo again", session=bash, wait=None)
    assert (after["state"], after["text"]) == ("completed", "again\n")


async def test_a_kernelspec_that_is_not_installed_is_refused_with_those_that_are(wire: Wire, bash: str) -> None:
    with pytest.raises(CallFailed, match="bash") as refused:
        await wire.execute("1", session=f"{bash}-none", kernel="zsh")
    assert refused.value.type == "unknown_kernelspec"


async def test_it_outlives_the_broker_which_takes_it_back_and_says_what_may_be_missing(
    start_broker: Callable[..., BrokerProcess], tmp_path: Path
) -> None:
    broker, gate = start_broker("--pool-size=0"), Gate(tmp_path)
    install_bash(broker)
    async with broker.connect() as wire:
        await wire.call("create_session", name="s", kernel="bash")
        await wire.execute("kept=before", session="s")
        running = await detached(wire, "s", f"echo begun; {until(gate)}; echo end")
        pid = await kernel_pid(wire, "s")
    broker.stop(9)
    broker.start()
    async with broker.connect() as wire:
        assert await kernel_pid(wire, "s") == pid
        gate.open()
        execution = await wire.done(running)
        assert execution["kernel_state"] == "preserved"
        assert execution["text"].startswith("begun\n")
        events = await wire.events(running)
        assert_whole(events)
        assert "gap" in [event["type"] for event in events]
        assert (await wire.execute("echo $kept", session="s", wait=None))["text"] == "before\n"
