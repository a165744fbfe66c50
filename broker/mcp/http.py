"""``/mcp`` of a broker: MCP's streamable HTTP.

The SDK's transport is an ASGI application; here is the little of ASGI that lets it stand behind tornado, and behind the
same gate as everything else of a broker.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from contextlib import asynccontextmanager
from typing import Any

from tornado.iostream import StreamClosedError
from tornado.routing import URLSpec

from ..api.auth import Gate
from ..api.http import Entrance
from ..api.rpc import MAX_MESSAGE
from ..client import Client

Message = MutableMapping[str, Any]
AsgiApp = Callable[
    [dict[str, Any], Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]
]

CHUNK_HEADERS = frozenset({b"transfer-encoding", b"connection", b"server"})
"""Those that tornado answers for."""


def routes(gate: Gate, url: str, token: str) -> list[URLSpec]:
    """The route. Without the extra `mcp` there is none."""
    if importlib.util.find_spec("mcp") is None:
        return []
    return [URLSpec("/mcp", McpHandler, {"gate": gate, "mount": Mount(url, token)})]


class Mount:
    """The SDK's application, made at the first request: its import takes a second that most brokers never need."""

    def __init__(self, url: str, token: str) -> None:
        self._url, self._token = url, token
        self._making = asyncio.Lock()
        self._app: AsgiApp | None = None
        self._running: asyncio.Task[None] | None = None

    async def app(self) -> AsgiApp:
        """The application, running."""
        async with self._making:
            if self._app is None:
                # In a thread, for nothing else may wait for it.
                manager = await asyncio.to_thread(self._make)
                started = asyncio.Event()
                self._running = asyncio.create_task(_run(manager, started))
                await started.wait()
                self._app = manager.handle_request
            return self._app

    def _make(self) -> Any:
        from mcp.server.streamable_http_manager import StreamableHTTPSessionManager  # noqa: PLC0415

        from .command import starting_directory  # noqa: PLC0415
        from .server import Tools  # noqa: PLC0415

        tools = Tools(self._connect, starting_directory())
        # The gate has checked host, origin and token.
        return StreamableHTTPSessionManager(tools.server(), max_request_body_size=MAX_MESSAGE)

    @asynccontextmanager
    async def _connect(self) -> AsyncIterator[Client]:
        # One for each call: a connection that stays would keep a broker that ends when idle from ever doing so.
        async with Client.connect(self._url, self._token) as client:
            yield client


class McpHandler(Entrance):
    """``/mcp``"""

    def initialize(self, gate: Gate, mount: Mount) -> None:  # type: ignore[override]
        super().initialize(gate)
        self._mount = mount
        self._gone = asyncio.Event()
        self._body_sent = False

    async def get(self) -> None:
        """Serve a stream, or with the other methods, messages."""
        app = await self._mount.app()
        with contextlib.suppress(StreamClosedError):
            await app(self._scope(), self._receive, self._send)

    post = delete = get

    def on_connection_close(self) -> None:
        self._gone.set()

    def _scope(self) -> dict[str, Any]:
        request = self.request
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": request.version.removeprefix("HTTP/"),
            "method": request.method,
            "scheme": request.protocol,
            "path": request.path,
            "raw_path": request.path.encode(),
            "query_string": request.query.encode(),
            "root_path": "",
            "headers": [(k.lower().encode("latin-1"), v.encode("latin-1")) for k, v in request.headers.get_all()],
            "client": (request.remote_ip, 0),
            "server": None,
        }

    async def _receive(self) -> Message:
        if not self._body_sent:
            self._body_sent = True
            return {"type": "http.request", "body": self.request.body, "more_body": False}
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.set_status(message["status"])
            self.clear_header("Content-Type")
            for name, value in message["headers"]:
                if name.lower() not in CHUNK_HEADERS:
                    self.set_header(name.decode("latin-1"), value.decode("latin-1"))
        elif message["type"] == "http.response.body":
            self.write(message.get("body", b""))
            if message.get("more_body"):
                await self.flush()
            else:
                # Whoever still listens for the end of the request must hear of it.
                self._gone.set()
                await self.finish()


async def _run(manager: Any, started: asyncio.Event) -> None:
    """Keep it running for as long as the broker runs. Its scopes must end in the task that they began in."""
    async with manager.run():
        started.set()
        await asyncio.Event().wait()
