"""A real Jupyter Server with the extension, and the little of its API that tests need."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import AsyncIterator, Callable
from typing import Any

import websockets
from jupyter_server.services.kernels.connection.base import deserialize_msg_from_ws_v1, serialize_msg_to_ws_v1

from broker.discovery import BrokerInfo

from ..running import PATIENCE, TOKEN, BrokerProcess

BASE = "/user/ada/"
"""As under JupyterHub."""
V1 = "v1.kernel.websocket.jupyter.org"
COLLABORATION = {
    "server": ["jupyter_server_ydoc", "jupyter_server_fileid"],
    "lab": ["@jupyter/collaboration-extension", "@jupyter/docprovider-extension"],
}
"""The extensions that jupyter-collaboration is made of."""


class ServerProcess(BrokerProcess):
    """``jupyter server`` or ``jupyter lab``, on the same directories as a broker has that runs alone.

    It is without jupyter-collaboration, unless that is asked for.
    """

    def __init__(
        self,
        *arguments: str,
        app: str = "jupyter_server",
        directory: BrokerProcess | None = None,
        collaboration: bool = False,
    ) -> None:
        super().__init__(*arguments)
        self.app = app
        self.info: BrokerInfo | None = None
        if directory:
            self.root, self.environment = directory.root, dict(directory.environment)
        self.environment.pop("JUPYTER_BROKER_TOKEN", None)
        self.environment["JUPYTER_TOKEN"] = TOKEN
        self.log = self.root / f"server-{uuid.uuid4().hex[:6]}.log"
        self.home = self.root / "home"
        self.home.mkdir(exist_ok=True)
        # What looks for language servers starts Node.js over and over.
        off = ["jupyter_lsp", *([] if collaboration else COLLABORATION["server"])]
        lab_off = [] if collaboration else COLLABORATION["lab"]
        self._configure("jupyter_server_config", {"ServerApp": {"jpserver_extensions": dict.fromkeys(off, False)}})
        self._configure("labconfig/page_config", {"disabledExtensions": dict.fromkeys(lab_off, True)})

    def _configure(self, name: str, config: dict[str, Any]) -> None:
        file = self.root / "config" / f"{name}.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(config))

    def launch(self) -> None:
        """Start the process, and wait for nothing."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [
                    *(sys.executable, "-m", self.app, "--no-browser", "--allow-root", "--port=0", "--debug"),
                    *(f"--ServerApp.base_url={BASE}", f"--ServerApp.root_dir={self.home}", *self.arguments),
                ],
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.root,
                start_new_session=True,
            )

    def start(self) -> ServerProcess:
        self.launch()
        self.until(self._listens)
        assert self.info is not None
        self.url = self.info.url.removesuffix("broker/")
        return self

    def _listens(self) -> bool:
        found = [json.loads(file.read_text()) for file in (self.root / "run").glob("jupyter-broker-*.json")]
        self.info = next((BrokerInfo(**each) for each in found if each["pid"] == self.pid), None)
        return self.info is not None

    def until(self, holds: Callable[[], bool]) -> None:
        """Wait until something holds that another process does."""
        deadline = time.monotonic() + PATIENCE
        while not holds():
            assert self.process is not None
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(self.log.read_text()[-4000:])
            time.sleep(0.05)

    def logged(self, text: str) -> bool:
        return text in self.log.read_text()

    def api(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """A request to the server's own API: status, and what was sent back."""
        data = None if body is None else json.dumps(body).encode()
        status, _, answer = self.request_as(method, f"api/{path}", data=data)
        return status, json.loads(answer) if answer else None

    def request_as(
        self, method: str, path: str, *, data: bytes | None = None, headers: dict[str, str] | None = None
    ) -> tuple[int, dict[str, str], bytes]:
        sent = {"Authorization": f"token {TOKEN}"} if headers is None else headers
        request = urllib.request.Request(self.url + path, data=data, headers=sent, method=method)
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE) as response:
                return response.status, dict(response.headers), response.read()
        except urllib.error.HTTPError as error:
            return error.code, dict(error.headers), error.read()

    def sessions(self) -> dict[str, dict[str, Any]]:
        """The server's sessions, by name."""
        return {each["name"]: each for each in self.api("GET", "sessions")[1]}


class Kernel:
    """A browser's connection to a kernel, as JupyterLab makes it."""

    def __init__(self, socket: websockets.ClientConnection) -> None:
        self.socket = socket
        self.session = uuid.uuid4().hex
        self.messages: list[dict[str, Any]] = []
        self._news = asyncio.Condition()
        self._reader = asyncio.ensure_future(self._read())

    async def _read(self) -> None:
        with contextlib.suppress(websockets.ConnectionClosed):
            async for frame in self.socket:
                assert isinstance(frame, bytes)
                channel, parts = deserialize_msg_from_ws_v1(frame)
                header, parent, metadata, content = map(json.loads, parts[:4])
                message = {
                    "channel": channel,
                    "type": header["msg_type"],
                    "header": header,
                    "parent": parent,
                    "metadata": metadata,
                    "content": content,
                    "buffers": parts[4:],
                }
                async with self._news:
                    self.messages.append(message)
                    self._news.notify_all()

    async def send(self, msg_type: str, content: dict[str, Any], channel: str = "shell", parent: Any = None) -> str:
        header = {
            "msg_id": uuid.uuid4().hex,
            "msg_type": msg_type,
            "session": self.session,
            "username": "",
            "date": "2026-01-01T00:00:00Z",
            "version": "5.3",
        }
        parts = [json.dumps(part).encode() for part in (header, parent or {}, {}, content)]
        await self.socket.send(serialize_msg_to_ws_v1(parts, channel))
        return str(header["msg_id"])

    async def execute(self, code: str) -> str:
        content = {"code": code, "silent": False, "store_history": True, "allow_stdin": True, "stop_on_error": True}
        return await self.send("execute_request", content | {"user_expressions": {}})

    async def until(self, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """The first message, of those that have come or will, that is wanted."""
        async with asyncio.timeout(PATIENCE), self._news:
            await self._news.wait_for(lambda: any(map(wanted, self.messages)))
        return next(filter(wanted, self.messages))

    async def reply(self, msg_id: str, channel: str = "shell") -> dict[str, Any]:
        return await self.until(lambda m: m["channel"] == channel and m["parent"].get("msg_id") == msg_id)

    async def idle(self, msg_id: str) -> None:
        await self.until(lambda m: m["content"].get("execution_state") == "idle" and m["parent"]["msg_id"] == msg_id)

    def of(self, msg_id: str, *types: str) -> list[dict[str, Any]]:
        """The messages about a cell."""
        return [m for m in self.messages if m["parent"].get("msg_id") == msg_id and (not types or m["type"] in types)]

    async def closed(self) -> None:
        """Wait for what was still on its way when the connection was closed."""
        await self._reader

    def text(self, msg_id: str) -> str:
        return "".join(m["content"]["text"] for m in self.of(msg_id, "stream"))


@contextlib.asynccontextmanager
async def opened(server: ServerProcess, kernel_id: str, session: str | None = None) -> AsyncIterator[Kernel]:
    """A kernel, as JupyterLab opens it; ``session`` is that of a connection which was cut."""
    session = session or uuid.uuid4().hex
    url = f"{server.url.replace('http', 'ws', 1)}api/kernels/{kernel_id}/channels?session_id={session}"
    async with websockets.connect(
        url,
        additional_headers={"Authorization": f"token {TOKEN}"},
        subprotocols=[websockets.Subprotocol(V1)],
        max_size=None,
        compression=None,
        ping_interval=None,
    ) as socket:
        kernel = Kernel(socket)
        kernel.session = session
        yield kernel
    await kernel.closed()


async def listed(server: ServerProcess, name: str, state: str = "idle") -> dict[str, Any]:
    """A session as the server lists it, once its kernel is in this state."""
    deadline = time.monotonic() + PATIENCE
    while True:
        found = server.sessions().get(name)
        if found and found["kernel"]["execution_state"] == state:
            return found
        assert time.monotonic() < deadline, f"{name} is listed as {found}"
        await asyncio.sleep(0.05)
