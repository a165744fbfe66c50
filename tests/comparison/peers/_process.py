"""Server processes, and HTTP with them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from ..peer import Refused

TOKEN = "a-token-for-comparisons"
PATIENCE = 60.0


class Answer(NamedTuple):
    """What came back over HTTP."""

    status: int
    headers: dict[str, str]
    body: Any

    def wanted(self, *statuses: int) -> Any:
        """The body, if the status is one of these.

        Raises:
            Refused: it is another one.
        """
        if self.status not in statuses:
            reason = self.body.get("message") or self.body.get("reason") if isinstance(self.body, dict) else self.body
            raise Refused(f"HTTP {self.status}" + (f" ({short(reason)})" if reason else ""))
        return self.body


def short(words: object) -> str:
    """A message of a peer's for a cell of a table: one line, without ids and addresses."""
    text = str(words).strip().splitlines()[0] if str(words).strip() else ""
    text = " ".join("…" if len(word) >= 30 else word for word in text.replace("|", "/").split())
    return text if len(text) <= 100 else text[:99] + "…"


class Process:
    """A server with a log. Its kernels are its children, or children of those."""

    def __init__(self, command: Sequence[str | Path], root: Path) -> None:
        self.command = [str(part) for part in command]
        self.root = root
        self.environment = {
            **os.environ,
            "JUPYTER_DATA_DIR": str(root / "data"),
            "JUPYTER_RUNTIME_DIR": str(root / "run"),
            "JUPYTER_CONFIG_DIR": str(root / "config"),
            "IPYTHONDIR": str(root / "ipython"),
            "PYTHONWARNINGS": "ignore",
        }
        self._process: subprocess.Popen[bytes] | None = None
        self._offspring: dict[int, psutil.Process] = {}

    def start(self) -> None:
        with (self.root / "log").open("ab") as log:
            self._process = subprocess.Popen(
                self.command, env=self.environment, cwd=self.root, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def kill(self) -> None:
        """SIGKILL for the server alone."""
        assert self._process is not None
        self._remember()
        self._process.kill()
        self._process.wait(PATIENCE)

    def stop(self) -> None:
        """End it, and all that it ever started."""
        if self._process is not None:
            self._remember()
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(5)
            self._process.kill()
            self._process.wait(PATIENCE)
        for process in self._offspring.values():
            with contextlib.suppress(psutil.Error):
                process.send_signal(signal.SIGKILL)

    def _remember(self) -> None:
        assert self._process is not None
        with contextlib.suppress(psutil.Error):
            for child in psutil.Process(self._process.pid).children(recursive=True):
                self._offspring[child.pid] = child


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Http:
    """Requests to one address, one at a time in a thread each, with a connection for each: nothing is held open."""

    def __init__(self, url: str, headers: dict[str, str]) -> None:
        self.url = url
        self.headers = headers

    async def __call__(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None, seconds: float = PATIENCE
    ) -> Answer:
        return await asyncio.to_thread(self._ask, method, path, body, headers or {}, seconds)

    def _ask(self, method: str, path: str, body: Any, headers: dict[str, str], seconds: float) -> Answer:
        data = None if body is None else json.dumps(body).encode()
        sent = {"Content-Type": "application/json", **self.headers, **headers}
        request = urllib.request.Request(self.url + path, data, sent, method=method)
        try:
            with urllib.request.urlopen(request, timeout=seconds) as response:
                return Answer(response.status, dict(response.headers), _decoded(response.read()))
        except urllib.error.HTTPError as error:
            return Answer(error.code, dict(error.headers), _decoded(error.read()))

    async def up(self, path: str) -> None:
        """Wait until it answers anything."""
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                await self("GET", path, seconds=5)
                return
            except OSError:
                if time.monotonic() > deadline:
                    raise
                await asyncio.sleep(0.2)


def _decoded(body: bytes) -> Any:
    text = body.decode(errors="replace")
    if text.startswith(("event:", "data:", "id:", ":")):
        # A stream of server-sent events: the last one with data is the answer.
        text = [line.removeprefix("data:") for line in text.splitlines() if line.startswith("data:")][-1]
    try:
        return json.loads(text)
    except ValueError:
        return text
