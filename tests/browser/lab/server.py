"""JupyterLab in a process of its own, with this checkout's build of the panel; and a line to it that can be cut."""

from __future__ import annotations

import asyncio
import contextlib
import json
from pathlib import Path
from urllib.parse import urlsplit

from ...lab.server import ServerProcess

CHECKOUT = Path(__file__).parents[3]
QUIET = {"fetchNews": "false", "checkForUpdates": False}


class LabProcess(ServerProcess):
    """``jupyter lab``, that asks nobody for news."""

    def __init__(self, *arguments: str, collaboration: bool = False) -> None:
        super().__init__(
            *("--expose-app-in-browser", "--LabApp.extension_manager=readonly", *arguments),
            app="jupyterlab",
            collaboration=collaboration,
        )
        extensions = self.root / "path" / "labextensions"
        extensions.mkdir(parents=True)
        (extensions / "jupyter-broker").symlink_to(CHECKOUT / "broker" / "lab" / "labextension")
        settings = self.root / "settings" / "@jupyterlab" / "apputils-extension"
        settings.mkdir(parents=True)
        (settings / "notification.jupyterlab-settings").write_text(json.dumps(QUIET))
        self.environment |= {
            "JUPYTER_PATH": str(self.root / "path"),
            "JUPYTERLAB_SETTINGS_DIR": str(self.root / "settings"),
            "JUPYTERLAB_WORKSPACES_DIR": str(self.root / "workspaces"),
        }


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
