"""What runs wherever a broker runs, put together: in ``jupyter broker serve``, and inside Jupyter Server.

Those two differ in who listens, who may come in, and what class the kernels' managers have; nothing else.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

from jupyter_client.multikernelmanager import AsyncMultiKernelManager
from tornado.routing import URLSpec

from .api.auth import Gate
from .api.http import HealthHandler, MetricsHandler, NotebookHandler, RpcHandler, SchemaHandler
from .api.methods import Methods
from .api.rpc import Rpc
from .api.websocket import Connections, Socket, status
from .journal import Journal
from .kernel.driver import KernelDriver, Report
from .kernel.jupyter import JupyterDriver, kernel_id_of
from .kernel.manager import kernel_directory
from .kernel.pool import Pool
from .kernel.provisioner import end_fork_servers
from .mcp.http import routes as mcp_routes
from .page import routes as page_routes
from .service import Broker
from .views.metrics import registry
from .views.reports import Reporter

API = "api/broker/v1/"


class Settings(NamedTuple):
    """What can be set of every broker. Times are in seconds."""

    handover_after: float = 30.0
    report_every: float = 60.0
    start_timeout: float = 60.0
    pool_size: int = 1
    max_sessions: int = 1000


class Reader(Protocol):
    """A view of the journal that works for as long as the broker does: it follows, and writes elsewhere."""

    def start(self) -> None:
        """Begin. Called when the sessions of the broker before are taken up, before anybody is let in."""

    async def stop(self) -> None:
        """End, when all that is in the journal by now is dealt with. Called before the journal is closed."""


class Composition:
    """All of a broker but its front door. Belongs to the running event loop, and to who holds ``data_dir``'s lock.

    ``make_manager`` makes the kernel manager, given the directory for the kernels' sockets and files.
    """

    def __init__(
        self, data_dir: Path, make_manager: Callable[[Path], AsyncMultiKernelManager], settings: Settings
    ) -> None:
        self.data_dir = data_dir
        self.journal = Journal(data_dir / "journal.sqlite")
        directory = kernel_directory(data_dir)
        sweep(directory, self.journal)
        self.manager = manager = make_manager(directory)
        self.pool = pool = Pool(manager, settings.pool_size, settings.start_timeout)

        def make_driver(report: Report) -> KernelDriver:
            return JupyterDriver(report, manager, start_timeout=settings.start_timeout, pool=pool)

        self.broker = Broker(
            self.journal,
            make_driver,
            lambda: kernelspecs(manager),
            default_kernel=manager.default_kernel_name,
            max_sessions=settings.max_sessions,
        )
        self.connections = Connections()
        self.journal.writer.on_stalled = lambda: self.connections.tell(status(self.journal))
        self.methods = Methods(self.broker, handover_after=settings.handover_after)
        self.reporter = Reporter(self.broker, settings.report_every)
        self.reporter.to(self.connections.report)
        self.readers: list[Reader] = []
        self._reporting: asyncio.Task[None] | None = None

    def routes(self, gate: Gate, url: str, token: str) -> list[URLSpec]:
        """The routes, from the root. ``url`` and ``token`` are how the broker is reached from this machine."""
        return routes(gate, self.broker, self.methods, self.connections, mcp_routes(gate, url, token))

    def start(self) -> None:
        """Take up the sessions of the broker before, and begin."""
        self.broker.restore()
        for reader in self.readers:
            reader.start()
        self._reporting = asyncio.ensure_future(self.reporter.run())

    async def stop(self) -> None:
        """Let go of the kernels, which run on, and end everything else. Nobody may come in any more."""
        if self._reporting:
            self._reporting.cancel()
        await self.broker.stop()
        await self.pool.close()
        await end_fork_servers()
        for reader in self.readers:
            await reader.stop()

    async def close(self) -> None:
        """Close the journal, when nobody reads any more."""
        await self.journal.close()
        self.manager.context.destroy(linger=0)


def routes(
    gate: Gate, broker: Broker, methods: Methods, connections: Connections, more: Sequence[URLSpec] = ()
) -> list[URLSpec]:
    """The routes. All but ``health`` and the page's own files need the token."""
    rpc = Rpc(methods)
    base = {"gate": gate}
    return [
        URLSpec(f"/{API}ws", Socket, {**base, "rpc": rpc, "journal": broker.journal, "connections": connections}),
        URLSpec(f"/{API}rpc", RpcHandler, {**base, "rpc": rpc}),
        URLSpec(f"/{API}health", HealthHandler, {**base, "journal": broker.journal}),
        URLSpec(f"/{API}openrpc.json", SchemaHandler, base),
        URLSpec(f"/{API}sessions/([^/]+)/notebook", NotebookHandler, {**base, "methods": methods}),
        URLSpec("/metrics", MetricsHandler, {**base, "registry": registry(broker, connections)}),
        *page_routes(gate),
        *more,
    ]


def kernelspecs(manager: AsyncMultiKernelManager) -> dict[str, dict[str, str]]:
    """The kernelspecs that are installed, by name."""
    assert manager.kernel_spec_manager is not None
    return {
        name: {"display_name": spec["spec"]["display_name"], "language": spec["spec"]["language"]}
        for name, spec in manager.kernel_spec_manager.get_all_specs().items()
    }


def sweep(directory: Path, journal: Journal) -> None:
    """Remove what earlier brokers were killed too soon to remove: outboxes of kernels that are no session's any more.

    A kernel of a pool may still be alive; it ends by itself when it notices.
    """
    known = {f"kernel-{kernel_id_of(session)}" for session in journal.sessions()}
    for outbox in directory.glob("*.outbox"):
        if outbox.stem not in known:
            shutil.rmtree(outbox, ignore_errors=True)
            outbox.with_suffix(".log").unlink(missing_ok=True)
