"""The kernel application. Start reading here.

    request ──► kernel.py ──► rewriting.py ──► engine.py ══► engine/control.mjs ──► engine/executions.mjs ──► user code
                                                                                                                  │
    IOPub ◄── outbox (of the Python kernel) ◄── text.py, kernel.py ◄── engine.py ◄══ engine/channel.mjs ◄─────────┘

The double arrows lead to and from the engine, a process of its own.
"""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import zmq
from broker_kernel.base import OutboxApp
from traitlets import Type

from .engine import find_node
from .kernel import Kernel


class App(OutboxApp):
    """See the module."""

    kernel_class = Type(Kernel)

    def init_control(self, context: zmq.Context[Any]) -> None:
        super().init_control(context)
        # Executions wait for the engine, and not in threads: its lanes are tasks of one event loop.
        self.shell_channel_thread = None

    def init_outbox(self, directory: Path | None) -> None:
        super().init_outbox(directory)
        self.scratch = None if directory else tempfile.mkdtemp()
        self.text_path = (directory or Path(str(self.scratch))) / "text"

    def init_io(self) -> None:
        # What this process prints is no output of anybody's: it goes to where the process was started to.
        self.displayhook = SimpleNamespace()

    def init_pdb(self) -> None:
        """There is nothing of Python's to debug."""

    def init_kernel(self) -> None:
        self.log.setLevel(self.log_level)
        super().init_kernel()

    def end(self, status: int) -> None:
        """End as the engine has ended: with its exit code, or by minus that signal."""
        closing = threading.Thread(target=self.close, daemon=True)
        closing.start()
        closing.join(2)
        self.remove_scratch()
        if status < 0:
            signal.signal(-status, signal.SIG_DFL) if -status != signal.SIGKILL else None
            os.kill(os.getpid(), -status)
        os._exit(max(status, 0))

    def remove_scratch(self) -> None:
        if self.scratch:
            shutil.rmtree(self.scratch, ignore_errors=True)


def main(argv: list[str]) -> None:
    """Run a kernel until it ends."""
    find_node()
    app = App.instance()
    app.initialize(argv)
    try:
        app.start()
    finally:
        app.kernel.engine.kill()
        app.remove_scratch()
