"""jupyter_client's side: as it is meant to be used, and as fast as it goes.

Of its clients the blocking one is the faster. ``execute_interactive`` is its call for running code and waiting for all
of it. Faster still is to read its channels directly, two sockets in one poll, until reply and idle are there: that call
and ``get_iopub_msg`` wrap each message in a coroutine and a turn of an event loop.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import zmq
from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.manager import KernelManager


class Raw:
    """A jupyter_client on one kernel."""

    def __init__(self, client: BlockingKernelClient) -> None:
        self.client = client
        self._shell, self._iopub = client.shell_channel, client.iopub_channel
        self._poller = zmq.Poller()
        self._poller.register(self._shell.socket, zmq.POLLIN)
        self._poller.register(self._iopub.socket, zmq.POLLIN)

    def interact(self, code: str) -> None:
        """Run code with jupyter_client's own call; drop its output."""
        self.client.execute_interactive(code, allow_stdin=False, output_hook=lambda message: None)

    def execute(self, code: str) -> int:
        """Run code until ``execute_reply`` and ``status: idle`` are both there; return the lines that it printed."""
        msg_id = self.client.execute(code, allow_stdin=False)
        lines, waiting = 0, {"execute_reply", "idle"}
        while waiting:
            ready = dict(self._poller.poll())
            if self._iopub.socket in ready:
                message = self._iopub.get_msg(timeout=0)
                if message["parent_header"].get("msg_id") == msg_id:
                    content = message["content"]
                    if message["msg_type"] == "stream":
                        lines += content["text"].count("\n")
                    elif message["msg_type"] == "status" and content["execution_state"] == "idle":
                        waiting.discard("idle")
            if self._shell.socket in ready:
                message = self._shell.get_msg(timeout=0)
                if message["parent_header"].get("msg_id") == msg_id:
                    waiting.discard("execute_reply")
        return lines

    def until_output(self, code: str) -> None:
        """Run code until its first output is there."""
        msg_id = self.client.execute(code, allow_stdin=False)
        while True:
            message: dict[str, Any] = self._iopub.get_msg()
            if message["parent_header"].get("msg_id") == msg_id and message["msg_type"] == "stream":
                return


@contextlib.contextmanager
def own_kernel(name: str = "python3") -> Iterator[Raw]:
    """A kernel that jupyter_client started, over Unix sockets as the broker's are. By default a stock one."""
    with TemporaryDirectory(prefix="jb-raw-") as directory:
        manager = KernelManager(kernel_name=name, transport="ipc", connection_file=str(Path(directory) / "kernel.json"))
        manager.start_kernel()
        client = manager.client()
        client.start_channels(stdin=False, hb=False)
        try:
            client.wait_for_ready(timeout=60)
            yield Raw(client)
        finally:
            client.stop_channels()
            manager.shutdown_kernel(now=True)
