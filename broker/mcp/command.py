"""``jupyter broker mcp``: an MCP server on stdin and stdout."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from inspect import cleandoc
from pathlib import Path
from typing import Any

from traitlets import Bool

from .. import discovery
from ..cli.base import Text
from ..cli.command import DONE, UNUSABLE, Command
from ..client import Client

RECONNECT_FOR = 10.0
"""Seconds that a broker which went away has to come back. A model is better told than kept waiting."""


class McpApp(Command):
    """Serve one MCP client, until it closes stdin."""

    name = "jupyter-broker-mcp"
    description = """Serve the broker's tools to an agent, by the Model Context Protocol on stdin and stdout.

    An MCP client starts this command itself; its configuration has `jupyter` as the command and `broker`, `mcp` as
    arguments. The broker is found, or started and left running: executions go on when the client is gone.
    """
    examples = cleandoc("""
    jupyter broker mcp                          code runs in the session of the client's directory
    jupyter broker mcp --session=work           in this one
    jupyter broker mcp --kernel=javascript      new sessions run this kernel
    jupyter broker mcp --print-config           what to put into a client's configuration
    """)

    session = Text(help="The session for code that names none; the default is one for each directory.").tag(config=True)
    kernel = Text(help="The kernel of new sessions; the default is Jupyter's.").tag(config=True)
    print_config = Bool(False, help="Print the configuration of a client for this command, and leave.").tag(config=True)

    aliases: dict[Any, Any] = {"session": "McpApp.session", "kernel": "McpApp.kernel"} | Command.aliases
    flags: dict[Any, Any] = {
        "print-config": ({"McpApp": {"print_config": True}}, "Print what to put into a client's configuration."),
    } | Command.flags

    async def run(self) -> int:
        """Serve, and leave the broker running."""
        self.arguments_given(0, 0)
        try:
            # Here, so that the command can say what is missing; and --help need not wait for it.
            from mcp.server.stdio import stdio_server  # noqa: PLC0415

            from .server import Tools  # noqa: PLC0415
        except ImportError as error:
            return self._fail(f"{error}; install it with: pip install 'jupyter-broker[mcp]'", UNUSABLE)
        if self.print_config:
            print(self._configuration())
            return DONE
        broker = Found(self.data_dir_given)
        tools = Tools(broker.connect, starting_directory(), session=self.session, kernel=self.kernel)
        server = tools.server()
        try:
            async with stdio_server() as (read, write):
                await server.run(read, write, server.create_initialization_options())
        finally:
            await broker.close()
        return DONE

    def _configuration(self) -> str:
        arguments = ["-m", "broker", "mcp"]
        return json.dumps({"mcpServers": {"jupyter-broker": {"command": sys.executable, "args": arguments}}}, indent=2)


class Found:
    """The broker of a data directory, found or started when somebody needs it. One connection for all calls."""

    def __init__(self, data_dir: str | None) -> None:
        self._data_dir = data_dir
        self._client: Client | None = None
        self._finding = asyncio.Lock()

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[Client]:
        """A client that is connected."""
        async with self._finding:
            if discovery.read_info(self._data_dir) is None:
                await asyncio.to_thread(discovery.start_in_background, self._data_dir)
            if self._client is None:
                client = Client.connect(data_dir=self._data_dir, reconnect_for=RECONNECT_FOR)
                self._client = await client.__aenter__()
        yield self._client

    async def close(self) -> None:
        """Close the connection; the broker, and all that runs, stays."""
        if self._client is not None:
            await self._client.close()


def starting_directory() -> Path:
    """Where new sessions begin: here, unless here is nowhere, as where a desktop or a service starts programs."""
    here = Path.cwd()
    return Path.home() if here == Path("/") else here
