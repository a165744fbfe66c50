"""A Jupyter Server of a peer's own, with one kernel, as two of the peers and the stock one need it."""

from __future__ import annotations

import contextlib
from pathlib import Path

from ._process import TOKEN, Http, Process, free_port

VERSIONS = ["jupyter_server==2.21.1", "ipykernel==7.4.0", "jupyter_client==8.10.0"]


class Server:
    """``jupyter server`` with its defaults, but for the address, the token and its directories."""

    def __init__(self, python: Path, root: Path) -> None:
        self.port = free_port()
        self.process = Process(
            [
                python,
                "-m",
                "jupyter_server",
                "--allow-root",
                "--no-browser",
                f"--port={self.port}",
                "--ServerApp.port_retries=0",
                f"--ServerApp.root_dir={root}",
                f"--IdentityProvider.token={TOKEN}",
            ],
            root,
        )
        self.url = f"http://127.0.0.1:{self.port}"
        self.http = Http(self.url, {"Authorization": f"token {TOKEN}"})
        self.kernel_id = ""

    async def start(self) -> None:
        self.process.start()
        await self.http.up("/api")

    async def start_kernel(self) -> None:
        self.kernel_id = str((await self.http("POST", "/api/kernels", {"name": "python3"})).wanted(201)["id"])

    async def interrupt(self) -> None:
        (await self.http("POST", f"/api/kernels/{self.kernel_id}/interrupt", {})).wanted(204)

    async def stop(self) -> None:
        with contextlib.suppress(Exception):
            await self.http("DELETE", f"/api/kernels/{self.kernel_id}", seconds=5)
        self.process.stop()
