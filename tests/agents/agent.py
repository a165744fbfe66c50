"""An agent: the MCP SDK's own client, with ``jupyter broker mcp`` in a process of its own."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from mcp import Client, StdioServerParameters
from mcp_types import CallToolResult

from ..running import BrokerProcess

ERAS = ("legacy", "auto")
"""By the handshake, and by what the client finds: the protocol of 2026-07-28."""


class Agent:
    """What it calls, and what it gets."""

    def __init__(self, client: Client) -> None:
        self.client = client

    async def __call__(self, tool: str, /, **arguments: Any) -> dict[str, Any]:
        """Call a tool. Returns the structure of its result."""
        result = await self.client.call_tool(tool, arguments)
        assert not result.is_error, text(result)
        return dict(result.structured_content)

    async def says(self, tool: str, /, **arguments: Any) -> str:
        """Call a tool. Returns the text of its result."""
        result = await self.client.call_tool(tool, arguments)
        assert not result.is_error, text(result)
        return text(result)

    async def refuses(self, tool: str, /, **arguments: Any) -> str:
        """Call a tool that cannot do this. Returns what it says about it."""
        result = await self.client.call_tool(tool, arguments)
        assert result.is_error, text(result)
        return text(result)


def text(result: CallToolResult) -> str:
    return "".join(block.text for block in result.content if block.type == "text")


def server(broker: BrokerProcess, directory: Path, *options: str) -> StdioServerParameters:
    """How a client starts the command."""
    return StdioServerParameters(
        command=sys.executable, args=["-m", "broker", "mcp", *options], env=broker.environment, cwd=directory
    )


@contextlib.asynccontextmanager
async def agent(
    broker: BrokerProcess, directory: Path, *options: str, era: str = ERAS[1], **callbacks: Any
) -> AsyncIterator[Agent]:
    try:
        async with Client(server(broker, directory, *options), mode=era, **callbacks) as client:
            yield Agent(client)
    except BaseExceptionGroup as group:
        # The SDK's task groups wrap what a test raised.
        error: BaseException = group
        while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
            error = error.exceptions[0]
        raise error from None
