"""Executions that were handed over, as tasks of the extension ``io.modelcontextprotocol/tasks`` (2026-07-28).

The SDK has its seams for extensions, and not yet this one. An execution is a task already: durable, with an id, and
asked by anyone who knows it. What is kept here beside it is only what the extension adds: which tasks were cancelled,
and which ended before their execution, since a person would not answer its prompt or must not be asked.
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime
from typing import Any, Protocol

from mcp.server.lowlevel import Server
from mcp.shared.exceptions import MCPError
from mcp_types import (
    INVALID_PARAMS,
    CallToolResult,
    ClientCapabilities,
    ElicitRequest,
    InputResponses,
    RequestParams,
)

from ..client import Client, Execution, UnknownExecution
from . import prompts
from .prompts import Context, OpenPrompts
from .reading import complete_result

EXTENSION = "io.modelcontextprotocol/tasks"
MISSING_CAPABILITY = -32021
POLL_EVERY_MS = 1000
MOST = 1000


class TaskParams(RequestParams):
    """Which task."""

    task_id: str


class UpdateParams(TaskParams):
    """What persons answered."""

    input_responses: InputResponses


class Home(Protocol):
    """What tasks need of the server they are part of."""

    open_prompts: OpenPrompts

    def connect(self) -> AbstractAsyncContextManager[Client]: ...


class Tasks:
    """The methods of the extension."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._cancelled: dict[str, None] = {}
        self._ended: dict[str, CallToolResult] = {}

    def add_to(self, server: Server[Any]) -> None:
        """Offer them."""
        server.extensions[EXTENSION] = {}
        server.add_request_handler("tasks/get", TaskParams, self._get)
        server.add_request_handler("tasks/update", UpdateParams, self._update)
        server.add_request_handler("tasks/cancel", TaskParams, self._cancel)

    def spoken(self, ctx: Context) -> bool:
        """Whether the client takes a task for a result."""
        capabilities: ClientCapabilities | None = ctx.session.client_capabilities
        return prompts.is_modern(ctx) and EXTENSION in ((capabilities and capabilities.extensions) or {})

    def created(self, execution: Execution) -> dict[str, Any]:
        """The task for an execution, as the result of the call that made it."""
        return {"resultType": "task", **_task(execution, "working")}

    async def _get(self, ctx: Context, params: TaskParams) -> dict[str, Any]:
        self._check(ctx)
        async with self._home.connect() as client:
            execution = await _execution(client, params.task_id)
            id = execution.execution_id
            if id in self._cancelled and execution.ended:
                return _task(execution, "cancelled")
            if id not in self._ended:
                if not execution.ended and execution.state != "awaiting_input":
                    return _task(execution, "working")
                if prompts.may_ask(ctx, execution):
                    seq = await self._home.open_prompts.seq(client, id)
                    asked = ElicitRequest(params=prompts.form(execution)).model_dump(
                        by_alias=True, mode="json", exclude_none=True
                    )
                    return {**_task(execution, "input_required"), "inputRequests": {str(seq): asked}}
                self._end(id, await complete_result(client, execution))
            result = self._ended[id].model_dump(by_alias=True, mode="json", exclude_none=True)
            return {**_task(execution, "completed"), "result": result}

    async def _update(self, ctx: Context, params: UpdateParams) -> dict[str, Any]:
        self._check(ctx)
        async with self._home.connect() as client:
            execution = await _execution(client, params.task_id)
            for key, response in params.input_responses.items():
                line = prompts.answer_in(response)
                seq = int(key) if key.isdecimal() else 0
                if line is not None:
                    await self._home.open_prompts.answer(client, execution.execution_id, seq, line)
                elif seq and seq == await self._home.open_prompts.seq(client, execution.execution_id):
                    # Nobody will answer it here: the model gets control back, as at a prompt of any other client.
                    self._end(execution.execution_id, await complete_result(client, execution))
        return {}

    async def _cancel(self, ctx: Context, params: TaskParams) -> dict[str, Any]:
        self._check(ctx)
        async with self._home.connect() as client:
            execution = await _execution(client, params.task_id)
            if not execution.ended:
                self._cancelled[execution.execution_id] = None
                _forget(self._cancelled)
                await client.interrupt(execution.execution_id)
        return {}

    def _end(self, id: str, result: CallToolResult) -> None:
        self._ended[id] = result
        _forget(self._ended)

    def _check(self, ctx: Context) -> None:
        if not self.spoken(ctx):
            raise MCPError(
                code=MISSING_CAPABILITY,
                message=f"declare the extension {EXTENSION} in this request's client capabilities",
                data={"requiredCapabilities": {"extensions": {EXTENSION: {}}}},
            )


async def _execution(client: Client, id: str) -> Execution:
    try:
        return await client.get_execution(id)
    except UnknownExecution as error:
        raise MCPError(code=INVALID_PARAMS, message=str(error)) from None


def _task(execution: Execution, status: str) -> dict[str, Any]:
    now = execution.finished_at or datetime.now(UTC).isoformat()
    return {
        "taskId": execution.execution_id,
        "status": status,
        "statusMessage": f"{execution.state}, {execution.duration or 0:.0f} s, {execution.lines} lines",
        "createdAt": execution.created_at,
        "lastUpdatedAt": now,
        "ttlMs": None,
        "pollIntervalMs": POLL_EVERY_MS,
    }


def _forget(known: dict[str, Any]) -> None:
    while len(known) > MOST:
        del known[next(iter(known))]
