"""Three programs, word for word, as an agent sends them that was written for another tool: over MCP, the older form."""

from __future__ import annotations

import asyncio
import re
import time
from pathlib import Path

from ..agents.agent import Agent, agent
from ..running import BrokerProcess, Wire, assert_whole
from .conftest import KERNEL
from .test_executions import ASKING, COUNTING, STEPS

TIME = r"\[\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z\]"
OPTIONS = f"--kernel={KERNEL}"


async def until_over(call: Agent, number: str) -> str:
    """The log of an execution, once it is over."""
    while True:
        log = await call.says("execute", action="get_async_log", executionId=number)
        if "running]" not in log and "awaiting_input]" not in log:
            return log
        await asyncio.sleep(0.1)


async def test_a_long_task_is_handed_over_at_30_seconds_and_ends_whole(
    javascript_broker: BrokerProcess, wire: Wire, session: str, directory: Path
) -> None:
    """Over both at once: it takes what it takes."""
    async with agent(javascript_broker, directory, OPTIONS) as call:
        await call("execute", code="0")
        began = time.monotonic()
        over_mcp, execution = await asyncio.gather(
            call.says("execute", workingDirectory=str(directory), code=COUNTING),
            wire.execute(COUNTING, session=session),
        )
        assert 29.5 < time.monotonic() - began < 60
        head, progress, tail = over_mcp.split("\n\n")
        assert head == "Execution moved to async mode after 30 seconds."
        assert tail == "[Execution ID: 0 - Use get_async_log to view further progress]"
        assert 24 <= len(progress.splitlines()) <= 31
        log = await until_over(call, "0")
        assert re.search(f"^{TIME} Starting long task...$", log, re.MULTILINE)
        printed = re.findall(f"^{TIME} Progress: (\\d+) seconds$", log, re.MULTILINE)
        assert printed == [str(i) for i in range(35)]
        assert re.search(f"^{TIME} 'Done'$", log, re.MULTILINE)
        assert log.endswith("[Execution ID: 0 - completed]")

    assert (execution["state"], execution["detached"]) == ("running", True)
    assert 24 <= execution["text"].count("\n") <= 31
    done = await wire.done(execution["execution_id"])
    lines = ["Starting long task...", *(f"Progress: {i} seconds" for i in range(35)), "'Done'"]
    assert (done["state"], done["text"].splitlines()) == ("completed", lines)
    assert_whole(await wire.events(execution["execution_id"]))


async def test_input_after_the_prompt_and_before_it(javascript_broker: BrokerProcess, directory: Path) -> None:
    async with agent(javascript_broker, directory, OPTIONS) as call:
        asked = await call.says("execute", workingDirectory=str(directory), code=ASKING)
        assert "Enter your name:" in asked
        sent = await call.says("execute", action="send_stdin", executionId="0", stdinData="Alice")
        assert sent.startswith("Input delivered.")
        assert "Hello, Alice!" in await until_over(call, "0")
        late = f"await new Promise(r => setTimeout(r, 1000)); {ASKING}"
        running = asyncio.ensure_future(call.says("execute", workingDirectory=str(directory), code=late))
        while "1: running" not in await call.says("execute", action="list_async_executions"):
            if running.done():
                break
        sent = await call.says("execute", action="send_stdin", executionId="1", stdinData="Bob")
        assert "Hello, Bob!" in await running or "Hello, Bob!" in await until_over(call, "1")


async def test_each_step_is_told_as_it_is_printed(javascript_broker: BrokerProcess, directory: Path) -> None:
    told: list[str] = []

    async def hear(progress: float, total: float | None, message: str | None) -> None:
        told.append(message or "")

    async with agent(javascript_broker, directory, OPTIONS) as call:
        arguments = {"workingDirectory": str(directory), "code": STEPS}
        result = await call.client.call_tool("execute", arguments, progress_callback=hear)
        assert "".join(block.text for block in result.content if block.type == "text") == "".join(
            f"Step {i}\n" for i in range(10)
        )
        steps = [message.split()[-1] for message in told if message.startswith("Step ")]
        assert len(steps) >= 4
        assert steps == sorted(set(steps), key=int)
