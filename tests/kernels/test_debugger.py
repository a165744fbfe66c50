"""A debugger is attached to an execution that runs already; nothing had to be switched on before.

Debug Adapter Protocol, as JupyterLab speaks it over ``debug_request`` (messaging spec, "Debug request").
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jupyter_client.blocking.client import BlockingKernelClient

from .own import PATIENCE, OwnKernel

IN_A_FUNCTION = """\
import time
def work(i):
    x = i * 2
    time.sleep(0.01)
    return x
print('begun', flush=True)
i = 0
while not open({gate!r}).read():
    work(i)
    i += 1
print('end')
"""
IN_A_LOOP = """\
print('begun', flush=True)
i = x = 0
while not i % 1000 == 0 or not open({gate!r}).read():
    i += 1
    x = i
print('end')
"""


class Debugger:
    def __init__(self, connection_file: str) -> None:
        self.client = BlockingKernelClient(connection_file=connection_file)
        self.client.load_connection_file()
        self.client.start_channels()
        # It hears events once its subscription has arrived.
        while self.client.get_iopub_msg(timeout=PATIENCE)["msg_type"] != "iopub_welcome":
            pass
        self._numbers = itertools.count(1)

    def __call__(self, command: str, **arguments: Any) -> dict[str, Any]:
        """The body of a successful response."""
        request = {"type": "request", "command": command, "arguments": arguments, "seq": next(self._numbers)}
        message = self.client.session.msg("debug_request", request)
        self.client.control_channel.send(message)
        while True:
            reply = self.client.get_control_msg(timeout=PATIENCE)
            if reply["parent_header"]["msg_id"] == message["header"]["msg_id"]:
                assert reply["content"].get("success"), reply["content"]
                body: dict[str, Any] = reply["content"].get("body") or {}
                return body

    def event(self, name: str) -> dict[str, Any]:
        while True:
            message = self.client.get_iopub_msg(timeout=PATIENCE)
            if message["msg_type"] == "debug_event" and message["content"]["event"] == name:
                body: dict[str, Any] = message["content"]["body"]
                return body

    def attach(self) -> None:
        self("initialize", clientID="test", adapterID="debugpy", pathFormat="path", linesStartAt1=True)
        self("attach")

    def variables(self, thread: int) -> dict[str, str]:
        frame = self("stackTrace", threadId=thread)["stackFrames"][0]["id"]
        local = self("scopes", frameId=frame)["scopes"][0]["variablesReference"]
        return {each["name"]: each["value"] for each in self("variables", variablesReference=local)["variables"]}


@pytest.fixture
def debug(kernel: OwnKernel) -> Iterator[Debugger]:
    """One of several in turn, for a kernel that the tests share."""
    debugger = Debugger(kernel.connection_file)
    yield debugger
    debugger.client.stop_channels()


@pytest.mark.parametrize("lane", ["main", "lane-1"])
@pytest.mark.parametrize(("code", "line"), [(IN_A_FUNCTION, 4), (IN_A_LOOP, 5)], ids=["function", "loop"])
def test_a_breakpoint_is_hit_in_what_runs_already(
    kernel: OwnKernel, debug: Debugger, tmp_path: Path, code: str, line: int, lane: str
) -> None:
    gate = tmp_path / "gate"
    gate.touch()
    code = code.format(gate=str(gate))
    execution = kernel.execute(code, lane)
    kernel.until(lambda: "begun" in kernel.text(execution))

    debug.attach()
    path = debug("dumpCell", code=code)["sourcePath"]
    set_to = debug("setBreakpoints", source={"path": path}, breakpoints=[{"line": line}])
    assert [each["verified"] for each in set_to["breakpoints"]] == [True]
    debug("configurationDone")

    stopped = debug.event("stopped")
    assert stopped["reason"] == "breakpoint"
    found = debug.variables(stopped["threadId"])
    assert {"i", "x"} <= found.keys()

    debug("next", threadId=stopped["threadId"])
    assert debug.event("stopped")["reason"] == "step"
    debug("setBreakpoints", source={"path": path}, breakpoints=[])
    gate.write_text("open")
    debug("continue", threadId=stopped["threadId"])
    assert kernel.done(execution)["status"] == "ok"
    assert kernel.text(execution) == "begun\nend\n"
    debug("disconnect", restart=False)
    assert kernel.run("1 + 1", lane)["status"] == "ok"


@pytest.mark.parametrize(("lane", "code", "line"), [("main", IN_A_LOOP, 5), ("lane-1", IN_A_FUNCTION, 4)])
def test_what_is_stopped_at_a_breakpoint_can_be_interrupted(
    kernel: OwnKernel, debug: Debugger, tmp_path: Path, lane: str, code: str, line: int
) -> None:
    gate = tmp_path / "gate"
    gate.touch()
    code = code.format(gate=str(gate))
    execution = kernel.execute(code, lane)
    kernel.until(lambda: "begun" in kernel.text(execution))
    debug.attach()
    path = debug("dumpCell", code=code)["sourcePath"]
    debug("setBreakpoints", source={"path": path}, breakpoints=[{"line": line}])
    debug("configurationDone")
    debug.event("stopped")
    kernel.interrupt(execution)
    reply = kernel.done(execution)
    assert (reply["status"], reply["ename"]) == ("error", "KeyboardInterrupt")
    debug.event("continued")
    debug("disconnect", restart=False)
    assert kernel.run("i", lane)["status"] == "ok"
