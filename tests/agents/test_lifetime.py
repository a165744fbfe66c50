"""The broker is found, or started and left running; and stdout carries nothing but protocol."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from ..running import PATIENCE, BrokerProcess
from .agent import agent

NOISY = (
    "import os, subprocess\nprint('printed')\nos.write(1, b'raw\\n')\nsubprocess.run(['echo', 'child'])\n'{\"jsonrpc\"'"
)


@pytest.fixture
def no_broker() -> Iterator[BrokerProcess]:
    """Directories without a broker. What is started there is ended."""
    home = BrokerProcess()
    del home.environment["JUPYTER_BROKER_TOKEN"]
    yield home
    with contextlib.suppress(AssertionError, ProcessLookupError):
        os.kill(started(home)["pid"], signal.SIGKILL)
    home.destroy()


def started(home: BrokerProcess) -> dict[str, Any]:
    """What a broker says of itself."""
    files = list((home.root / "run").glob("jupyter-broker-*.json"))
    assert len(files) == 1
    return dict(json.loads(files[0].read_text()))


def await_death(process: psutil.Process) -> None:
    # A zombie stays, for as long as its parent lives and does not care.
    while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.01)


async def test_a_broker_is_started_once_and_executions_outlive_the_client(
    no_broker: BrokerProcess, tmp_path: Path
) -> None:
    async with agent(no_broker, tmp_path) as call:
        assert not list(no_broker.root.glob("run/*.json")), "nobody has needed it yet"
        code = "import time\nfor i in range(30):\n    print(i)\n    time.sleep(0.1)\nx = 'kept'"
        handed = await call("execute", code=code, wait=0.5)
        assert handed["state"] in ("queued", "running")
        pid = started(no_broker)["pid"]
    assert psutil.pid_exists(pid)
    async with agent(no_broker, tmp_path, era="legacy") as call:
        assert started(no_broker)["pid"] == pid
        ended = await call("wait", execution_id=handed["execution_id"], wait=PATIENCE)
        assert ended["state"] == "completed"
        assert ended["text"] == "".join(f"{i}\n" for i in range(30))
        assert await call.says("execute", code="x") == "'kept'\n"


async def test_a_running_broker_is_found(broker: BrokerProcess, tmp_path: Path) -> None:
    async with agent(broker, tmp_path) as call:
        ran = await call("execute", code="1")
    async with broker.connect() as wire:
        assert (await wire.call("get_execution", execution_id=ran["execution_id"]))["state"] == "completed"


async def test_a_broker_that_is_gone_is_started_again(no_broker: BrokerProcess, tmp_path: Path) -> None:
    async with agent(no_broker, tmp_path) as call:
        handed = await call("execute", code="import time\ntime.sleep(2)\n'end'", wait=0)
        process = psutil.Process(started(no_broker)["pid"])
        process.kill()
        await asyncio.to_thread(await_death, process)
        ended = await call("wait", execution_id=handed["execution_id"], wait=PATIENCE)
        assert ended["text"] == "'end'\n"
        assert started(no_broker)["pid"] != process.pid


async def test_the_session_and_the_kernel_can_be_given(broker: BrokerProcess, tmp_path: Path) -> None:
    name = f"given-{tmp_path.name}"
    async with agent(broker, tmp_path, f"--session={name}", "--kernel=stock") as call:
        ran = await call("execute", code="import os; os.getcwd()")
        assert ran["text"] == f"'{tmp_path}'\n"
    async with broker.connect() as wire:
        session = await wire.call("get_session", session=ran["session_id"])
        assert (session["name"], session["kernel"]) == (name, "stock")


def test_stdout_has_nothing_but_protocol(no_broker: BrokerProcess, tmp_path: Path) -> None:
    # It starts a broker, runs code that prints in every way, and is asked what is no request.
    call = {"name": "execute", "arguments": {"code": NOISY}}
    sent = [
        {
            "id": 1,
            "method": "initialize",
            "params": {
                "protocolVersion": "2025-11-25",
                "capabilities": {},
                "clientInfo": {"name": "test", "version": "1"},
            },
        },
        {"method": "notifications/initialized"},
        {"id": 2, "method": "tools/call", "params": call},
        {"id": 3, "method": "nonsense"},
    ]
    process = subprocess.Popen(
        [sys.executable, "-m", "broker", "mcp"],
        env=no_broker.environment,
        cwd=tmp_path,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    for message in sent:
        process.stdin.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
    process.stdin.write("this is no JSON\n")
    process.stdin.flush()
    answers: dict[Any, Any] = {}
    while not {1, 2, 3} <= answers.keys():
        line = process.stdout.readline()
        answer = json.loads(line)
        assert answer["jsonrpc"] == "2.0"
        answers[answer.get("id")] = answer
    rest, _ = process.communicate(timeout=PATIENCE)
    assert rest == ""
    assert process.returncode == 0
    text = answers[2]["result"]["structuredContent"]["text"]
    assert all(word in text for word in ("printed", "raw", "child"))


def test_help_and_configuration(no_broker: BrokerProcess) -> None:
    def run(*arguments: str) -> str:
        command = [sys.executable, "-m", "broker", "mcp", *arguments]
        return subprocess.run(command, env=no_broker.environment, capture_output=True, text=True, check=True).stdout

    assert "--session" in run("--help")
    (server,) = json.loads(run("--print-config"))["mcpServers"].values()
    assert server == {"command": sys.executable, "args": ["-m", "broker", "mcp"]}
