"""Prompts, put to the person at the client's screen where the client can do that: elicitation.

A client of the handshake era is asked by a request of ours while its call waits. One of the 2026-07-28 era gets
``input_required`` as the result of its call, and makes the call again with the answer and a state that we gave it.
A secret is asked for in neither way (MCP 2026-07-28, "Elicitation": servers must not).
"""

from __future__ import annotations

import asyncio
from typing import Any, Self

import msgspec
from mcp.server.context import ServerRequestContext
from mcp.shared.exceptions import MCPError
from mcp_types import (
    CallToolRequestParams,
    ClientCapabilities,
    ElicitRequest,
    ElicitRequestFormParams,
    ElicitResult,
    InputRequiredResult,
)
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

from ..client import Client, Execution, RequestFailed
from .tools import is_secret

Context = ServerRequestContext[Any, Any]

PATIENCE = 120.0
"""Seconds that a person has to answer, in the handshake era; then the model gets control back."""
MOST_ROUNDS = 8
"""How often one call is made again for a prompt. Clients give up after ten, and leave the model without a result."""
KEY = "answer"
PAGE = 10_000


class Round(msgspec.Struct):
    """What a call that is made again knows of the call before. It comes from outside, and is believed nothing else."""

    execution_id: str
    prompt_seq: int
    number: int = 1
    after: int = 0

    @classmethod
    def of(cls, params: CallToolRequestParams) -> Self | None:
        """The state that a call brings; None for one that is made for the first time."""
        if params.request_state is None:
            return None
        return msgspec.json.decode(params.request_state, type=cls)


def is_modern(ctx: Context) -> bool:
    """Whether the client is of the 2026-07-28 era."""
    return ctx.protocol_version in MODERN_PROTOCOL_VERSIONS


def may_ask(ctx: Context, execution: Execution) -> bool:
    """Whether the client lets us put this prompt to a person."""
    if execution.state != "awaiting_input" or is_secret(execution):
        return False
    capabilities: ClientCapabilities | None = ctx.session.client_capabilities
    elicitation = capabilities.elicitation if capabilities else None
    if elicitation is None or (elicitation.form is None and elicitation.url is not None):
        return False
    return is_modern(ctx) or ctx.session.can_send_request


def form(execution: Execution) -> ElicitRequestFormParams:
    """The prompt as a form of one line."""
    asked = execution.input_request.prompt if execution.input_request else ""
    return ElicitRequestFormParams(
        message=asked.strip() or f"Execution {execution.execution_id} asks for a line of input.",
        requested_schema={
            "type": "object",
            "properties": {KEY: {"type": "string", "title": "Answer"}},
            "required": [KEY],
        },
    )


def answer_in(response: object) -> str | None:
    """What the person typed; None if they would not."""
    if not isinstance(response, ElicitResult) or response.action != "accept":
        return None
    value = (response.content or {}).get(KEY)
    return None if value is None else str(value)


async def ask(ctx: Context, execution: Execution) -> str | None:
    """Ask now, while the call waits; None if the person would not, or took too long."""
    asked = form(execution)
    try:
        async with asyncio.timeout(PATIENCE):
            response = await ctx.session.elicit_form(
                asked.message, asked.requested_schema, related_request_id=ctx.request_id
            )
    except (TimeoutError, MCPError):
        return None
    return answer_in(response)


def required(execution: Execution, round: Round) -> InputRequiredResult:
    """Have the client ask, and make its call again."""
    return InputRequiredResult(
        input_requests={KEY: ElicitRequest(params=form(execution))},
        request_state=msgspec.json.encode(round).decode(),
    )


class OpenPrompts:
    """Which prompt an execution waits at: the seq of its event, so that no answer goes to another one."""

    def __init__(self) -> None:
        self._read: dict[str, tuple[int, int]] = {}

    async def seq(self, client: Client, execution_id: str) -> int:
        """The seq of the open prompt; 0 if none is open. A log is read once, and then from where it was left."""
        after, open_seq = self._read.pop(execution_id, (0, 0))
        while True:
            page = await client.get_async_log(execution_id, after=after, limit=PAGE)
            for event in page.events:
                if event.type == "input_request":
                    open_seq = event.seq
                elif event.type in ("input_reply", "execution_finished"):
                    open_seq = 0
            after = page.seq
            if page.eof:
                break
        self._read[execution_id] = after, open_seq
        while len(self._read) > 1000:
            del self._read[next(iter(self._read))]
        return open_seq

    async def answer(self, client: Client, execution_id: str, seq: int, line: str) -> bool:
        """Answer the prompt of a seq; False if it is closed already, and the answer is nobody's."""
        if seq == 0 or await self.seq(client, execution_id) != seq:
            return False
        try:
            await client.send_stdin(execution_id, line)
        except RequestFailed:
            return False
        return True
