"""A kernel application whose kernel keeps an outbox, whatever language that kernel speaks.

It gives ipykernel's application a session that writes down what it sends, an IOPub socket that drops nothing, and an
end for when no broker comes back. The Python kernel (:mod:`broker_kernel.app`) and the kernels beside it extend it.
"""

from __future__ import annotations

import os
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import zmq
from ipykernel.kernelapp import IPKernelApp
from traitlets import default

from .children import descendants
from .outbox import Outbox
from .wire import OutboxThread, Session, lift_limits

OUTBOX_VARIABLE = "JUPYTER_BROKER_OUTBOX"
"""The directory for the outbox, which has a FIFO ``wake`` in it already. Unset: there is no broker, and no outbox."""
PATIENCE_VARIABLE = "JUPYTER_BROKER_PATIENCE"
"""Seconds that a kernel waits for a broker to come back; a day, if unset."""
POOLED_VARIABLE = "JUPYTER_BROKER_POOLED"
"""Set for a kernel that is nobody's yet. It waits for :data:`UNTAKEN` seconds at most."""
UNTAKEN = 10.0


class OutboxApp(IPKernelApp):  # type: ignore[misc]
    """See the module."""

    taken = True
    """Whether it is somebody's, and not one that waits in a pool."""

    @default("session")
    def _session_default(self) -> Session:
        return Session(parent=self)

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
        directory = os.environ.pop(OUTBOX_VARIABLE, None)
        self.init_outbox(Path(directory) if directory else None)

    def init_outbox(self, directory: Path | None) -> None:
        """Keep an outbox there. None: there is no broker."""
        self.patience = float(os.environ.pop(PATIENCE_VARIABLE, None) or 86_400)
        self.taken = not os.environ.pop(POOLED_VARIABLE, None)
        session: Session = self.session
        session.outbox = self.outbox = Outbox(directory)
        self._directory = directory
        self._heard_at = time.monotonic()
        if directory:
            self.iopub_thread.call_later(1, self._look_for_broker)

    def _look_for_broker(self) -> None:
        """End the process when no broker has come back for too long."""
        now = time.monotonic()
        if self.outbox.heard():
            self._heard_at = now
        patience = self.patience if self.taken else min(UNTAKEN, self.patience)
        if now - self._heard_at > patience:
            for child in descendants(os.getpid()):
                try:
                    os.kill(child, signal.SIGKILL)
                except OSError:
                    pass
            shutil.rmtree(str(self._directory), ignore_errors=True)
            self.cleanup_connection_file()
            os._exit(0)
        self.iopub_thread.call_later(min(60, patience / 4), self._look_for_broker)
