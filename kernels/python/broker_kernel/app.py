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
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import Any

import zmq
from ipykernel.kernelapp import IPKernelApp
from traitlets import Type, default
from traitlets.config import Config

from . import cells as _cells
from . import descriptors, text, threads
from .kernel import Kernel
from .outbox import Outbox
from .wire import OutboxThread, Session, lift_limits

OUTBOX_VARIABLE = "JUPYTER_BROKER_OUTBOX"
"""The directory for the outbox, which has a FIFO ``wake`` in it already. Unset: there is no broker, and no outbox."""
PATIENCE_VARIABLE = "JUPYTER_BROKER_PATIENCE"
"""Seconds that a kernel waits for a broker to come back; a day, if unset."""
POOLED_VARIABLE = "JUPYTER_BROKER_POOLED"
"""Set for a kernel that is nobody's yet. It waits for :data:`UNTAKEN` seconds at most."""
UNTAKEN = 10.0


class App(IPKernelApp):  # type: ignore[misc]
    """See the module."""

    kernel_class = Type(Kernel)
    taken = True
    """Whether it is somebody's, and not one that waits in a pool."""

    @default("session")
    def _session_default(self) -> Session:
        return Session(parent=self)

    @default("outstream_class")
    def _outstream_class_default(self) -> str:
        return "broker_kernel.text.OutStream"

    def init_iopub(self, context: zmq.Context[Any]) -> None:
        socket = context.socket(zmq.XPUB)
        socket.linger = 1000
        lift_limits(socket)
        self._apply_curve_server_options(socket)
        self.iopub_port = self._bind_socket(socket, self.iopub_port)
        self.configure_tornado_logger()
        self.iopub_thread = OutboxThread(socket, pipe=True, session=self.session)
        self.iopub_thread.start()
        self.iopub_socket = self.iopub_thread.background_socket
        self._init_outbox()

    def _init_outbox(self) -> None:
        directory = os.environ.pop(OUTBOX_VARIABLE, None)
        self.patience = float(os.environ.pop(PATIENCE_VARIABLE, None) or 86_400)
        self.taken = not os.environ.pop(POOLED_VARIABLE, None)
        session: Session = self.session
        session.outbox = self.outbox = Outbox(Path(directory) if directory else None)
        thread: OutboxThread = self.iopub_thread

        def publish(cell: _cells.Cell, name: str, written: str, epoch: int, offset: int) -> None:
            session.publish_text(thread, cell.parent, name, written, epoch, offset)

        self.text = text.OutStream.text = text.Text(self.outbox, publish, thread.call_later)
        if directory:
            self.text.keep_in(Path(directory) / "text")
            thread.call_later(1, self._look_for_broker)
        self._directory = directory
        self._heard_at = time.monotonic()
        os.register_at_fork(after_in_child=self._forked)

    def _look_for_broker(self) -> None:
        """End the process when no broker has come back for too long."""
        now = time.monotonic()
        if self.outbox.heard():
            self._heard_at = now
        patience = self.patience if self.taken else min(UNTAKEN, self.patience)
        if now - self._heard_at > patience:
            for child in _cells.descendants(os.getpid()):
                try:
                    os.kill(child, signal.SIGKILL)
                except OSError:
                    pass
            shutil.rmtree(str(self._directory), ignore_errors=True)
            self.cleanup_connection_file()
            os._exit(0)
        self.iopub_thread.call_later(min(60, patience / 4), self._look_for_broker)

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
