"""Jupyter Server's side: stock, in a process of its own, with a kernel of its own of the same kernelspec."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import websockets

from ..running import PATIENCE

_TOKEN = "a-token-for-benchmarks"


class ServerKernel:
    """A kernel of Jupyter Server's, over its WebSocket."""

    def __init__(self, socket: websockets.ClientConnection) -> None:
        self._socket = socket
        self._ids = itertools.count(1)

    async def execute(self, code: str) -> None:
        """Run code until ``execute_reply`` and ``status: idle`` are both there."""
        msg_id = f"bench-{next(self._ids)}"
        header = {"msg_id": msg_id, "msg_type": "execute_request", "version": "5.3", "username": "", "session": "bench"}
        content = {"code": code, "silent": False, "store_history": True, "user_expressions": {}, "allow_stdin": False}
        message = {"header": header, "parent_header": {}, "metadata": {}, "content": content, "channel": "shell"}
        await self._socket.send(json.dumps(message))
        waiting = {"execute_reply", "idle"}
        while waiting:
            answer: dict[str, Any] = json.loads(await self._socket.recv())
            if answer["parent_header"].get("msg_id") != msg_id:
                continue
            waiting.discard(answer["msg_type"])
            if answer["msg_type"] == "status" and answer["content"]["execution_state"] == "idle":
                waiting.discard("idle")


@contextlib.asynccontextmanager
async def server_kernel() -> AsyncIterator[ServerKernel]:
    """Start a Jupyter Server and a kernel in it, and open its WebSocket."""
    root = Path(tempfile.mkdtemp(prefix="jb-server-"))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {
        **os.environ,
        "JUPYTER_DATA_DIR": str(root / "data"),
        "JUPYTER_RUNTIME_DIR": str(root / "run"),
        "JUPYTER_CONFIG_DIR": str(root / "config"),
        "IPYTHONDIR": str(root / "ipython"),
    }
    options = [
        "--allow-root",
        "--no-browser",
        f"--port={port}",
        "--ServerApp.port_retries=0",
        f"--ServerApp.root_dir={root}",
        f"--IdentityProvider.token={_TOKEN}",
    ]
    process = _launch(options, environment, root)
    kernel_id = ""
    url = f"127.0.0.1:{port}/api/kernels"
    try:
        kernel_id = _start_kernel(url, root / "log")
        async with websockets.connect(
            f"ws://{url}/{kernel_id}/channels?session_id=bench",
            additional_headers={"Authorization": f"token {_TOKEN}"},
            compression=None,
            max_size=None,
            ping_interval=None,
        ) as connection:
            yield ServerKernel(connection)
    finally:
        with contextlib.suppress(OSError):
            if kernel_id:
                _request(f"http://{url}/{kernel_id}", "DELETE")
        process.terminate()
        process.wait(PATIENCE)
        shutil.rmtree(root, ignore_errors=True)


def _launch(options: list[str], environment: dict[str, str], root: Path) -> subprocess.Popen[bytes]:
    with (root / "log").open("wb") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "jupyter_server", *options],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )


def _start_kernel(url: str, log: Path) -> str:
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            return str(json.loads(_request(f"http://{url}", "POST", b'{"name": "python3"}'))["id"])
        except OSError:
            if time.monotonic() > deadline:
                raise RuntimeError(f"Jupyter Server did not start:\n{log.read_text()}") from None
            time.sleep(0.2)


def _request(url: str, method: str, data: bytes | None = None) -> bytes:
    request = urllib.request.Request(url, data, {"Authorization": f"token {_TOKEN}"}, method=method)
    with urllib.request.urlopen(request, timeout=PATIENCE) as response:
        body: bytes = response.read()
        return body
