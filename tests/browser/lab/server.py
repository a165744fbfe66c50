"""JupyterLab in a process of its own, with directories of its own and the panel as this checkout has it built."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

from ...running import PATIENCE, TOKEN

CHECKOUT = Path(__file__).parents[3]
QUIET = {"fetchNews": "false", "checkForUpdates": False, "doNotDisturbMode": False}


class LabServer:
    """``jupyter lab``, with a server extension. Its ``url`` ends with its base URL."""

    def __init__(self, extension: str, **environment: str) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="jl-"))
        self.url = ""
        settings = self.root / "settings" / "@jupyterlab" / "apputils-extension"
        settings.mkdir(parents=True)
        (settings / "notification.jupyterlab-settings").write_text(json.dumps(QUIET))
        extensions = self.root / "path" / "labextensions"
        extensions.mkdir(parents=True)
        (extensions / "jupyter-broker").symlink_to(CHECKOUT / "broker" / "lab" / "labextension")
        (self.root / "work").mkdir()
        self.log = self.root / "lab.log"
        self._extension = extension
        self._environment = {
            **os.environ,
            **environment,
            "JUPYTER_TOKEN": TOKEN,
            "JUPYTER_PATH": str(self.root / "path"),
            "JUPYTER_DATA_DIR": str(self.root / "data"),
            "JUPYTER_RUNTIME_DIR": str(self.root / "run"),
            "JUPYTER_CONFIG_DIR": str(self.root / "config"),
            "JUPYTERLAB_SETTINGS_DIR": str(self.root / "settings"),
            "JUPYTERLAB_WORKSPACES_DIR": str(self.root / "workspaces"),
            "IPYTHONDIR": str(self.root / "ipython"),
            "PYTHONPATH": str(CHECKOUT),
        }

    def __enter__(self) -> LabServer:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--expose-app-in-browser"),
                    *("--ip=127.0.0.1", f"--port={port}", "--ServerApp.port_retries=0", "--ServerApp.base_url=/base/"),
                    *(f"--ServerApp.root_dir={self.root / 'work'}", "--LabApp.extension_manager=readonly"),
                    f"--ServerApp.jpserver_extensions={{'{self._extension}': True}}",
                ],
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.root,
            )
        self.url = f"http://127.0.0.1:{port}/base/"
        until = time.monotonic() + PATIENCE
        while not self._answers():
            if self.process.poll() is not None or time.monotonic() > until:
                raise AssertionError(f"JupyterLab did not start:\n{self.log.read_text()}")
            time.sleep(0.1)
        return self

    def _answers(self) -> bool:
        with contextlib.suppress(OSError):
            request = urllib.request.Request(self.url + "api/status", headers={"Authorization": f"token {TOKEN}"})
            with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
                return bool(answer.status == 200)
        return False

    def __exit__(self, *exception: object) -> None:
        self.process.terminate()
        try:
            self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        shutil.rmtree(self.root, ignore_errors=True)


class Line:
    """A line to a server that can be cut. Until it is mended, whoever comes is turned away."""

    def __init__(self, url: str) -> None:
        self._there = urlsplit(url)
        self._open: set[asyncio.StreamWriter] = set()
        self._cut = False
        self.url = ""

    async def __aenter__(self) -> Line:
        self._server = await asyncio.start_server(self._come, "127.0.0.1", 0)
        self.url = self._there._replace(netloc=f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}").geturl()
        return self

    async def __aexit__(self, *exception: object) -> None:
        self._server.close()
        self.cut()

    def cut(self) -> None:
        self._cut = True
        for writer in self._open:
            writer.transport.abort()

    def mend(self) -> None:
        self._cut = False

    async def _come(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._cut:
            writer.transport.abort()
            return
        there = await asyncio.open_connection(self._there.hostname, self._there.port)
        both = {writer, there[1]}
        self._open |= both
        await asyncio.gather(self._copy(reader, there[1]), self._copy(there[0], writer))
        self._open -= both

    @staticmethod
    async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65_536):
                writer.write(data)
                await writer.drain()
        writer.close()
