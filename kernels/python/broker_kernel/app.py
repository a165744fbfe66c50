"""The kernel application: puts the pieces in ipykernel's places. Start reading here.

    request ──► kernel.py ──► shell.py ──► user code ──┬─► text.py ─────────┐
                                ▲                      ├─► descriptors.py ──┼─► wire.py ──► outbox.py ──► IOPub
                 interrupts.py ─┘                      └─► prompts.py ──────┘

What belongs to whom is known from the context (cells.py), which threads inherit (threads.py).
"""

from __future__ import annotations

import atexit
import faulthandler
import os
import sys
from pathlib import Path

from traitlets import Type, default
from traitlets.config import Config

from . import cells as _cells
from . import descriptors, text, threads
from .base import OutboxApp
from .kernel import Kernel
from .wire import OutboxThread, Session


class App(OutboxApp):
    """See the module."""

    kernel_class = Type(Kernel)

    @default("outstream_class")
    def _outstream_class_default(self) -> str:
        return "broker_kernel.text.OutStream"

    def init_outbox(self, directory: Path | None) -> None:
        super().init_outbox(directory)
        session: Session = self.session
        thread: OutboxThread = self.iopub_thread

        def publish(cell: _cells.Cell, name: str, written: str, epoch: int, offset: int) -> None:
            session.publish_text(thread, cell.parent, name, written, epoch, offset)

        self.text = text.OutStream.text = text.Text(self.outbox, publish, thread.call_later)
        if directory:
            self.text.keep_in(directory / "text")
        os.register_at_fork(after_in_child=self._forked)

    def _forked(self) -> None:
        self.outbox.forked()
        self.text.after_fork()

    def init_io(self) -> None:
        # What the kernel's own process says goes where it was started to.
        log = os.fdopen(os.dup(2), "w", buffering=1)
        super().init_io()
        faulthandler.enable(log)
        for handler in self.log.handlers:
            if getattr(handler, "stream", None) in (sys.__stderr__, sys.stderr):
                handler.stream = log
        descriptors.capture(self.text.write, self.outbox.lock)
        if descriptors.epoll is not None:
            loop = self.iopub_thread.io_loop
            loop.add_callback(loop.add_handler, descriptors.epoll.fileno(), lambda *_: descriptors.ready(), loop.READ)
        atexit.register(text.at_exit)

    def init_kernel(self) -> None:
        # traitlets lets all be logged, and only its handler drops it.
        self.log.setLevel(self.log_level)
        threads.install()
        super().init_kernel()

    def close(self) -> None:
        text.at_exit()
        super().close()


def config() -> Config:
    """What this kernel has otherwise than IPython."""
    ours = Config()
    # A database that all kernels share makes them wait for each other. A session's history is its own, and in the
    # journal besides.
    ours.HistoryManager.hist_file = ":memory:"
    return ours


def main(argv: list[str]) -> None:
    """Run a kernel until it ends."""
    app = App.instance(config=config())
    app.initialize(argv)
    app.start()
