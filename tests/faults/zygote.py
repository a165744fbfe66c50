"""Starts brokers at a tenth of the price: a process with all imported, and each broker is a fork of it.

Otherwise a broker's start is mostly its imports, and few moments of its life would be left to kill it in.
"""

from __future__ import annotations

import array
import gc
import json
import os
import select
import signal
import socket
import subprocess
import sys
from pathlib import Path

from broker.app import ServeApp

from ..running import PATIENCE, BrokerProcess


class Forked:
    """Stands in for ``subprocess.Popen``: a process that is the zygote's child, and not ours."""

    def __init__(self, pid: int, descriptor: int) -> None:
        self.pid, self._descriptor = pid, descriptor
        self.returncode: int | None = None

    def poll(self) -> int | None:
        if self.returncode is None and select.select([self._descriptor], [], [], 0)[0]:
            self._over()
        return self.returncode

    def wait(self, timeout: float = PATIENCE) -> int:
        if self.returncode is None:
            assert select.select([self._descriptor], [], [], timeout)[0], "the broker does not end"
            self._over()
        return self.returncode or 0

    def _over(self) -> None:
        os.close(self._descriptor)
        self.returncode = -signal.SIGKILL

    def send_signal(self, number: int) -> None:
        signal.pidfd_send_signal(self._descriptor, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class CheapBroker(BrokerProcess):
    """A broker that starts in a moment, again and again."""

    def __init__(self, *arguments: str) -> None:
        super().__init__(*arguments)
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
        assert self._socket.recv(1)

    def spawn(self) -> int:
        """Start it, and return what is readable once it listens, or is dead."""
        assert self.process is None or self.process.poll() is not None
        ready, says = os.pipe()
        socket.send_fds(self._socket, [json.dumps([str(self.root), *self.arguments]).encode()], [says])
        os.close(says)
        (pid,) = array.array("q", self._socket.recv(8))
        # It is reaped only after this, see below: the pid is no other's yet.
        self.process = Forked(pid, os.pidfd_open(pid))  # type: ignore[assignment]
        self._socket.send(b"1")
        return ready

    def start(self) -> CheapBroker:
        with os.fdopen(self.spawn()) as pipe:
            if not pipe.readline():
                raise AssertionError(f"the broker did not start:\n{self.log.read_text()}")
        self.url = json.loads(next((self.root / "run").glob("jupyter-broker-*.json")).read_text())["url"]
        return self

    def destroy(self) -> None:
        self._socket.close()
        self._zygote.wait(PATIENCE)
        super().destroy()


def serve(directory: str, ready: int, *arguments: str) -> None:
    """Be a broker."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.chdir(directory)
    ServeApp.launch_instance(["--port=0", f"--ready-fd={ready}", *arguments])


def main(descriptor: int) -> None:
    gc.freeze()
    with socket.socket(fileno=descriptor) as parent:
        parent.send(b"1")
        while True:
            request, descriptors, *_ = socket.recv_fds(parent, 65_536, 1)
            if not request:
                return
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            if (pid := os.fork()) == 0:
                parent.close()
                directory, *arguments = json.loads(request)
                serve(directory, descriptors[0], *arguments)
                os._exit(0)
            os.close(descriptors[0])
            parent.send(array.array("q", [pid]).tobytes())
            parent.recv(1)
            # From here on, the system reaps it.
            signal.signal(signal.SIGCHLD, signal.SIG_IGN)


if __name__ == "__main__":
    main(int(sys.argv[1]))
