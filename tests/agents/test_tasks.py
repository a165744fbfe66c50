"""Executions as tasks, for a client that speaks the extension."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Literal

import pytest
from mcp import MCPError
from mcp.client import Client
from mcp.client.extension import ClaimContext, ClientExtension, ResultClaim
from mcp_types import CallToolResult, ElicitResult, Request, RequestParams, Result

from broker.mcp.tasks import EXTENSION

from ..running import BrokerProcess
from .agent import server, text


class Created(Result):
    """A task as the result of a call."""

    result_type: Literal["task"] = "task"
    task_id: str
    status: str
    ttl_ms: int | None
    poll_interval_ms: int


class State(Result):
    """What tasks/get says."""

    task_id: str
    status: str
    input_requests: dict[str, Any] | None = None
    result: dict[str, Any] | None = None


class TaskParams(RequestParams):
    task_id: str
    input_responses: dict[str, Any] | None = None


class TaskRequest(Request[TaskParams, str]):
    method: str
    params: TaskParams


class Speaks(ClientExtension):
    """A client that takes a task for a result, and gives it to its caller as it is."""

    identifier = EXTENSION

    def claims(self) -> tuple[ResultClaim[Any], ...]:
        async def resolve(claimed: Created, context: ClaimContext) -> CallToolResult:
            raise AssertionError("the tests claim it themselves")

        return (ResultClaim(result_type="task", model=Created, resolve=resolve),)


class Tasks:
    def __init__(self, client: Client) -> None:
        self.client = client

    async def execute(self, **arguments: Any) -> Any:
        return await self.client.session.call_tool("execute", arguments, allow_claimed=True)

    async def send(self, method: str, task_id: str, model: Any = State, **params: Any) -> Any:
        request = TaskRequest(method=f"tasks/{method}", params=TaskParams(task_id=task_id, **params))
        return await self.client.session.send_request(request, model)

    async def until(self, task_id: str, *statuses: str) -> State:
        while True:
            state = await self.send("get", task_id)
            if state.status in statuses:
                return state
            await asyncio.sleep(0.1)


@contextlib.asynccontextmanager
async def tasks(broker: BrokerProcess, directory: Path, *, elicits: bool = True) -> AsyncIterator[Tasks]:
    async def elicited(context: Any, params: Any) -> ElicitResult:
        raise AssertionError("a task's prompts are in its state")

    callback = {"elicitation_callback": elicited} if elicits else {}
    async with Client(server(broker, directory), extensions=[Speaks()], **callback) as client:
        yield Tasks(client)


async def test_at_handover_an_execution_is_a_task(broker: BrokerProcess, tmp_path: Path) -> None:
    async with tasks(broker, tmp_path) as client:
        assert (await client.execute(code="1 + 1")).structured_content["text"] == "2\n"
        created = await client.execute(code="import time\ntime.sleep(1.5)\n'end'", wait=0.2)
        assert isinstance(created, Created)
        assert (created.status, created.ttl_ms) == ("working", None)
        assert (await client.send("get", created.task_id)).status == "working"
        state = await client.until(created.task_id, "completed")
        assert CallToolResult.model_validate(state.result).structured_content["text"] == "'end'\n"


async def test_its_prompt_is_the_task_s(broker: BrokerProcess, tmp_path: Path) -> None:
    async with tasks(broker, tmp_path) as client:
        created = await client.execute(code="[input('First: '), input('Second: ')]")
        keys = []
        for answer in ("a", "b"):
            state = await client.until(created.task_id, "input_required")
            ((key, request),) = (state.input_requests or {}).items()
            assert request["method"] == "elicitation/create"
            keys.append(key)
            accepted = {"action": "accept", "content": {"answer": answer}}
            await client.send("update", created.task_id, Result, input_responses={key: accepted, "none": accepted})
            # Once more: the key is used up, and the answer nobody's.
            await client.send("update", created.task_id, Result, input_responses={key: accepted})
        assert len(set(keys)) == 2
        state = await client.until(created.task_id, "completed")
        assert CallToolResult.model_validate(state.result).structured_content["text"].endswith("['a', 'b']\n")


async def test_a_prompt_that_nobody_answers_ends_the_task_and_not_the_execution(
    broker: BrokerProcess, tmp_path: Path
) -> None:
    async with tasks(broker, tmp_path) as client:
        created = await client.execute(code="input('First: ')")
        state = await client.until(created.task_id, "input_required")
        (key,) = state.input_requests or {}
        await client.send("update", created.task_id, Result, input_responses={key: {"action": "decline"}})
        state = await client.send("get", created.task_id)
        assert state.status == "completed"
        result = CallToolResult.model_validate(state.result)
        assert result.structured_content["state"] == "awaiting_input"
        assert "input(execution_id=" in text(result)
        ended = await client.client.call_tool("input", {"execution_id": created.task_id, "text": "x"})
        assert ended.structured_content["state"] == "completed"
        assert (await client.send("get", created.task_id)).result == state.result


async def test_a_secret_gives_the_model_control_back(broker: BrokerProcess, tmp_path: Path) -> None:
    async with tasks(broker, tmp_path) as client:
        asked = await client.execute(code="import getpass; getpass.getpass()")
        assert isinstance(asked, CallToolResult)
        assert "jupyter broker attach" in text(asked)
        created = await client.execute(code="import time, getpass\ntime.sleep(1)\ngetpass.getpass()", wait=0.1)
        state = await client.until(created.task_id, "completed", "input_required")
        assert "jupyter broker attach" in text(CallToolResult.model_validate(state.result))
        await client.client.call_tool("stop", {"execution_id": created.task_id})
        await client.client.call_tool("stop", {"execution_id": asked.structured_content["execution_id"]})


async def test_a_task_is_cancelled(broker: BrokerProcess, tmp_path: Path) -> None:
    async with tasks(broker, tmp_path) as client:
        created = await client.execute(code="import time\ntime.sleep(600)", wait=0)
        await client.send("cancel", created.task_id, Result)
        assert (await client.until(created.task_id, "cancelled")).status == "cancelled"


async def test_what_is_no_task_is_refused(broker: BrokerProcess, tmp_path: Path) -> None:
    async with tasks(broker, tmp_path) as client:
        with pytest.raises(MCPError) as refused:
            await client.send("get", "none")
        assert refused.value.error.code == -32602
    async with Client(server(broker, tmp_path)) as plain:
        result = await plain.call_tool("execute", {"code": "import time; time.sleep(600)", "wait": 0})
        with pytest.raises(MCPError) as refused:
            await Tasks(plain).send("get", result.structured_content["execution_id"])
        assert refused.value.error.code == -32021
        await plain.call_tool("stop", {"execution_id": result.structured_content["execution_id"]})
