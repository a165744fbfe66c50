"""Starts brokers at a tenth of the price: a process with all imported, and each broker is a fork of it.

Otherwise a broker's start is mostly its imports, and few moments of its life would be left to kill it in.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import select
import socket
import struct
import subprocess
import sys
from pathlib import Path

import broker.app  # noqa: F401 (what the zygote is for)
from broker.steps import VARIABLE

from ..running import PATIENCE, BrokerProcess

NUMBER = struct.Struct("<q")


class Forked:
    """Stands in for ``subprocess.Popen``: a child of the zygote, which tells how it ended."""

    def __init__(self, zygote: socket.socket) -> None:
        self._zygote = zygote
        (self.pid,) = NUMBER.unpack(zygote.recv(NUMBER.size))
        self.returncode: int | None = None

    def poll(self) -> int | None:
        if self.returncode is None and select.select([self._zygote], [], [], 0)[0]:
            (self.returncode,) = NUMBER.unpack(self._zygote.recv(NUMBER.size))
        return self.returncode

    def wait(self, timeout: float = PATIENCE) -> int:
        if self.returncode is None:
            assert select.select([self._zygote], [], [], timeout)[0], "the broker does not end"
        status = self.poll()
        assert status is not None
        return status

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            # The zygote reaps it, and may have done so a moment ago.
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(9)


class CheapBroker(BrokerProcess):
    """A broker that starts in a moment, again and again."""

    def __init__(self, *arguments: str) -> None:
        super().__init__(*arguments)
        self.deaths = -1
        """How often it was started again."""
        self._socket, theirs = socket.socketpair()
        with theirs, self.log.open("ab") as log:
            self._zygote = subprocess.Popen(
                [sys.executable, "-m", __name__, str(theirs.fileno())],
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[theirs.fileno()],
                cwd=Path(__file__).parents[2],
            )

    def spawn(self, die_at: str = "") -> int:
        """Start it, and return what is readable once it listens, or is dead. ``die_at``: see :mod:`broker.steps`."""
        assert self.process is None or self.process.poll() is not None
        self.deaths += 1
        ready, says = os.pipe()
        socket.send_fds(self._socket, [json.dumps([str(self.root), die_at, *self.arguments]).encode()], [says])
        os.close(says)
        self.process = Forked(self._socket)  # type: ignore[assignment]
        return ready

    def start(self) -> CheapBroker:
        with os.fdopen(self.spawn()) as pipe:
            if not pipe.readline():
                raise AssertionError(f"the broker did not start:\n{self.log.read_text()}")
        self.find_url()
        return self

    def find_url(self) -> None:
        self.url = json.loads(next((self.root / "run").glob("jupyter-broker-*.json")).read_text())["url"]

    def destroy(self) -> None:
        super().destroy()
        self._socket.close()
        self._zygote.wait(PATIENCE)


def serve(ready: int, directory: str, die_at: str, *arguments: str) -> None:
    """Be a broker."""
    os.chdir(directory)
    if die_at:
        # This is read when the modules are imported. What takes long to import is not ours.
        os.environ[VARIABLE] = die_at
        for name in [name for name in sys.modules if name.partition(".")[0] == "broker"]:
            del sys.modules[name]
    importlib.import_module("broker.app").ServeApp.launch_instance(["--port=0", f"--ready-fd={ready}", *arguments])


def main(descriptor: int) -> None:
    """Be the zygote: fork a broker for each request, and tell its pid, and its exit status when it is over."""
    gc.freeze()
    with socket.socket(fileno=descriptor) as parent:
        while True:
            request, descriptors, *_ = socket.recv_fds(parent, 65_536, 1)
            if not request:
                return
            if (pid := os.fork()) == 0:
                parent.close()
                serve(descriptors[0], *json.loads(request))
                os._exit(0)
            os.close(descriptors[0])
            parent.send(NUMBER.pack(pid))
            _, status = os.waitpid(pid, 0)
            parent.send(NUMBER.pack(os.waitstatus_to_exitcode(status)))


if __name__ == "__main__":
    main(int(sys.argv[1]))
