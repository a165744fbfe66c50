"""The older form of ``execute``, as prompts were written for it."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

from ..running import BrokerProcess
from .agent import Agent, agent

STEPS = """
import time
print('Starting long task...')
for i in range(8):
    time.sleep(0.5)
    print('Progress:', i)
'Done'
"""
TIME = r"\[\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z\]"


async def until_over(call: Agent, number: str) -> str:
    """The log of an execution, once it is over."""
    while True:
        log = await call.says("execute", action="get_async_log", executionId=number)
        if "running]" not in log and "awaiting_input]" not in log:
            return log
        await asyncio.sleep(0.1)


async def test_a_long_task_from_handover_to_its_last_line(hasty: BrokerProcess, tmp_path: Path) -> None:
    async with agent(hasty, tmp_path) as call:
        handed = await call.says("execute", workingDirectory=str(tmp_path), code=STEPS)
        first, progress, last = handed.split("\n\n")
        assert first == "Execution moved to async mode after 2 seconds."
        assert last == "[Execution ID: 0 - Use get_async_log to view further progress]"
        assert re.fullmatch(f"{TIME} Starting long task...(\n{TIME} Progress: \\d)+", progress)
        listed = await call.says("execute", action="list_async_executions")
        assert re.match(r"0: running, \d+ seconds, \d lines: ", listed)
        log = await until_over(call, "0")
        assert re.findall(f"^{TIME} Progress: (\\d)$", log, re.MULTILINE) == list("01234567")
        assert re.search(f"^{TIME} 'Done'$", log, re.MULTILINE)
        assert log.endswith("\n\n[Execution ID: 0 - completed]")
        assert await call.says("execute", action="list_async_executions") == "No async executions."
        # The next one is "1", and what is quick has no number in its text.
        assert await call.says("execute", workingDirectory=str(tmp_path), code="'quick'") == "'quick'\n"
        handed = await call.says("execute", workingDirectory=str(tmp_path), code="import time; time.sleep(600)")
        assert handed.endswith("[Execution ID: 2 - Use get_async_log to view further progress]")
        assert await call.says("execute", action="kill", executionId="2") == (
            "Execution 2: interrupted; the kernel's state is preserved"
        )


async def test_each_client_counts_from_0_and_all_is_its_own(hasty: BrokerProcess, tmp_path: Path) -> None:
    forever = "import time; time.sleep(600)"
    async with agent(hasty, tmp_path) as one, agent(hasty, tmp_path) as other:
        for number in ("0", "1"):
            handed = await one.says("execute", workingDirectory=str(tmp_path), code=forever)
            assert f"[Execution ID: {number} - " in handed
        assert "[Execution ID: 0 - " in await other.says("execute", workingDirectory=str(tmp_path), code=forever)
        assert (await one.says("execute", action="kill")).splitlines() == [
            "Execution 0: interrupted; the kernel's state is preserved",
            "Execution 1: interrupted; the kernel's state is preserved",
        ]
        assert await one.says("execute", action="kill") == "Nothing runs."
        assert (await other.says("execute", action="list_async_executions")).startswith("0: running")
        await other.says("execute", action="kill")


async def test_input_is_sent_when_it_is_asked_for_and_before(hasty: BrokerProcess, tmp_path: Path) -> None:
    hello = "print('Enter your name:')\nname = input()\nprint('Hello, ' + name + '!')"
    async with agent(hasty, tmp_path) as call:
        asked = await call.says("execute", workingDirectory=str(tmp_path), code=hello)
        assert "Enter your name:" in asked
        assert "send_stdin" in asked
        assert asked.endswith("[Execution ID: 0 - Use get_async_log to view further progress]")
        sent = await call.says("execute", action="send_stdin", executionId="0", stdinData="Alice")
        assert sent.startswith("Input delivered.")
        assert "Hello, Alice!" in await until_over(call, "0")
        late = f"import time; time.sleep(3)\n{hello}"
        await call.says("execute", workingDirectory=str(tmp_path), code=late)
        sent = await call.says("execute", action="send_stdin", executionId="1", stdinData="Bob")
        assert sent.startswith("Input queued for its next prompt.")
        assert "Hello, Bob!" in await until_over(call, "1")


async def test_progress_since_a_time(hasty: BrokerProcess, tmp_path: Path) -> None:
    async with agent(hasty, tmp_path) as call:
        await call.says("execute", workingDirectory=str(tmp_path), code=STEPS)
        log = await until_over(call, "0")
        times = re.findall(r"^\[(.+?)\] Progress", log, re.MULTILINE)
        progress = await call.says("execute", action="get_progress", executionId="0", since=times[4])
        # To the millisecond: the journal's own times are finer.
        assert re.findall(r"Progress: (\d)", progress) in (list("4567"), list("567"))
        everything = await call.says("execute", action="get_progress", executionId="0")
        assert re.findall(r"Progress: (\d)", everything) == list("01234567")
        refused = await call.refuses("execute", action="get_progress", executionId="0", since="yesterday")
        assert "ISO 8601" in refused


async def test_the_history_is_cleared(hasty: BrokerProcess, tmp_path: Path) -> None:
    async with agent(hasty, tmp_path) as call:
        await call.says("execute", workingDirectory=str(tmp_path), code="print('old')\nimport time; time.sleep(600)")
        kept = await call.says("execute", action="clear_history", executionId="0", clearHistory=False)
        assert kept == "History of execution 0 cleared (0 entries)."
        assert "old" in await call.says("execute", action="get_async_log", executionId="0")
        cleared = await call.says("execute", action="clear_history", executionId="0", clearHistory=True)
        assert re.fullmatch(r"History of execution 0 cleared \([1-9]\d* entries\).", cleared)
        assert await call.says("execute", action="get_async_log", executionId="0") == (
            "(nothing)\n\n[Execution ID: 0 - running]"
        )
        await call.says("execute", action="kill")


async def test_code_wins_over_action(hasty: BrokerProcess, tmp_path: Path) -> None:
    async with agent(hasty, tmp_path) as call:
        ran = await call.says("execute", workingDirectory=str(tmp_path), code="6 * 7", action="kill", executionId="9")
        assert ran == "42\n"


async def test_code_runs_in_the_working_directory_and_keeps_its_variables(hasty: BrokerProcess, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    async with agent(hasty, tmp_path) as call:
        for name in ("a", "b"):
            where = str(tmp_path / name)
            assert (
                await call.says("execute", workingDirectory=where, code="import os; x = os.getcwd(); x")
                == f"'{where}'\n"
            )
        assert await call.says("execute", workingDirectory=str(tmp_path / "a"), code="x") == f"'{tmp_path / 'a'}'\n"
        refused = await call.refuses("execute", workingDirectory=str(tmp_path / "c"), code="1")
        assert "is not a directory" in refused
        assert "ZeroDivisionError" in await call.says("execute", workingDirectory=str(tmp_path), code="1/0")


async def test_what_cannot_be_done_is_said_with_what_can(hasty: BrokerProcess, tmp_path: Path) -> None:
    async with agent(hasty, tmp_path) as call:
        assert "nothing was executed yet" in await call.refuses("execute", action="kill", executionId="0")
        await call.says("execute", workingDirectory=str(tmp_path), code="1")
        for action in ("kill", "get_async_log", "get_progress", "clear_history", "send_stdin"):
            refused = await call.refuses("execute", action=action, executionId="7", stdinData="")
            assert refused.startswith("""There is no execution '7': ids go from "0" to "0".""")
        assert "needs executionId" in await call.refuses("execute", action="get_async_log")
        assert "needs stdinData" in await call.refuses("execute", action="send_stdin", executionId="0")
        assert "Give code to run, or an action" in await call.refuses("execute", workingDirectory=str(tmp_path))
        assert "action" in await call.refuses("execute", action="dance")


async def test_ids_of_the_broker_are_taken_too(hasty: BrokerProcess, tmp_path: Path) -> None:
    """What an earlier client began is found by `list`, and read in this form as well."""
    async with agent(hasty, tmp_path) as call:
        ran = await call("execute", code="print('seen')")
        log = await call.says("execute", action="get_async_log", executionId=ran["execution_id"])
        assert re.match(f"{TIME} seen\n", log)


async def test_a_long_log_fits(hasty: BrokerProcess, tmp_path: Path) -> None:
    async with agent(hasty, tmp_path) as call:
        code = "for i in range(50_000): print('line', i)\nimport time; time.sleep(600)"
        handed = await call.says("execute", workingDirectory=str(tmp_path), code=code)
        assert len(handed) < 40_000
        assert re.search(f"{TIME} line 0\n", handed)
        assert "characters left out" in handed
        log = ""
        while not re.search(f"{TIME} line 49999\n", log):
            log = await call.says("execute", action="get_async_log", executionId="0")
            assert re.search(f"{TIME} line 0\n", log)
        await call.says("execute", action="kill")
