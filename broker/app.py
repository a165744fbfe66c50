"""``jupyter broker serve``: the composition root. Everything is put together here, and nowhere else."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import os
import resource
import secrets
import shutil
import signal
import sys
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from inspect import cleandoc
from pathlib import Path

import zmq.asyncio
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.multikernelmanager import AsyncMultiKernelManager
from jupyter_client.provisioning.factory import KernelProvisionerFactory
from jupyter_core.application import base_aliases, base_flags
from jupyter_core.paths import jupyter_runtime_dir
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.routing import URLSpec
from tornado.web import Application
from traitlets import Bool, Float, Integer, List, Unicode, default
from traitlets.config import Config

from . import __version__
from .api.auth import LOOPBACK, Gate
from .api.http import HealthHandler, MetricsHandler, NotebookHandler, NotFound, RpcHandler, SchemaHandler
from .api.methods import Methods
from .api.rpc import MAX_TRANSPORT, Rpc
from .api.websocket import Connections, Socket, status
from .cli.base import BaseApp
from .discovery import (
    BrokerInfo,
    DataDirectoryInUse,
    DataDirectoryLock,
    remove_info,
    resolve_data_dir,
    write_info,
)
from .journal import Journal, JournalError
from .kernel.driver import KernelDriver, Report
from .kernel.jupyter import JupyterDriver, kernel_id_of
from .kernel.pool import Pool
from .kernel.provisioner import BrokerProvisioner, end_fork_servers
from .mcp.http import routes as mcp_routes
from .page import routes as page_routes
from .service import Broker
from .views.metrics import registry
from .views.reports import Reporter, print_report

API = "api/broker/v1/"
LONGEST_IPC_DIRECTORY = 107 - len("/01234567/kernel-00000000-0000-0000-0000-000000000000-ipc-5")
"""A Unix socket's path has at most 107 bytes (``unix(7)``)."""


def make_manager(connection_dir: Path, config: Config | None = None) -> AsyncMultiKernelManager:
    """A kernel manager whose kernels listen on Unix sockets in ``connection_dir``, and outlive this process."""
    context: zmq.asyncio.Context = zmq.asyncio.Context()
    context.max_sockets = 65_535
    ours = Config()
    ours.KernelManager.transport = "ipc"
    ours.BrokerProvisioner.keep_outbox = True
    ours.merge(config or Config())
    # A singleton, which whoever was first has made without our configuration.
    KernelProvisionerFactory.instance().default_provisioner_name = "jupyter-broker-provisioner"
    return AsyncMultiKernelManager(
        config=ours,
        context=context,
        # The plain class: what to do about a kernel that dies is for its session to say, not for a restarter.
        kernel_manager_class="jupyter_client.manager.AsyncKernelManager",
        kernel_spec_manager=KernelSpecManager(config=ours),
        connection_dir=str(connection_dir),
    )


def kernel_directory(data_dir: Path) -> Path:
    """Where this broker's kernels' sockets, connection files and outboxes are.

    For the owner only, with a short name, and for one data directory: what nobody knows in it is nobody's.
    """
    directory = Path(jupyter_runtime_dir()) / "broker"
    if len(os.fsencode(directory)) > LONGEST_IPC_DIRECTORY:
        directory = Path(tempfile.gettempdir()) / f"jupyter-broker-{os.getuid()}"
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = directory.lstat()
    if status.st_uid != os.getuid() or not directory.is_dir() or directory.is_symlink():
        raise PermissionError(f"{directory} belongs to somebody else; set JUPYTER_RUNTIME_DIR to a shorter path")
    directory.chmod(0o700)
    directory /= hashlib.sha256(os.fsencode(data_dir.resolve())).hexdigest()[:8]
    directory.mkdir(mode=0o700, exist_ok=True)
    return directory


def sweep(directory: Path, journal: Journal) -> None:
    """Remove what earlier brokers were killed too soon to remove: outboxes of kernels that are no session's any more.

    A kernel of a pool may still be alive; it ends by itself when it notices.
    """
    known = {f"kernel-{kernel_id_of(session)}" for session in journal.sessions()}
    for outbox in directory.glob("*.outbox"):
        if outbox.stem not in known:
            shutil.rmtree(outbox, ignore_errors=True)
            outbox.with_suffix(".log").unlink(missing_ok=True)


class ServeApp(BaseApp):
    """Run a broker in the foreground."""

    name = "jupyter-broker-serve"
    description = """Run a broker: it runs code on Jupyter kernels for those who hold its token.

    It listens on 127.0.0.1:8890. The other commands, and the Python client, find it by themselves: its address and
    token are in a file in the Jupyter runtime directory that only you can read. Kernels go on when the broker stops,
    and the next one takes them back.
    """
    examples = cleandoc("""
    jupyter broker serve                                  # on 127.0.0.1:8890
    jupyter broker serve --port=0                         # on a port that is free
    JUPYTER_BROKER_TOKEN=... jupyter broker serve         # with a token of your own
    jupyter broker serve --handover-after=10              # callers get control back after ten seconds
    """)

    classes = [BrokerProvisioner]  # noqa: RUF012

    ip = Unicode("127.0.0.1", help="The address to listen on. Anyone who reaches it and has the token runs code.").tag(
        config=True
    )
    port = Integer(8890, help="The port to listen on; 0 picks one that is free.").tag(config=True)
    handover_after = Float(30.0, min=0, help="Seconds after which a caller gets control back, unless it says.").tag(
        config=True
    )
    report_every = Float(60.0, min=0.05, help="Seconds between two reports of what runs.").tag(config=True)
    start_timeout = Float(60.0, min=1, help="Seconds in which a kernel must get ready.").tag(config=True)
    exit_when_idle = Float(
        0.0, min=0, help="Stop after so many seconds without a session, an execution or a client; 0 never does."
    ).tag(config=True)
    allow_hosts = List(Unicode(), help="Names, beside localhost, that requests may have as their Host.").tag(
        config=True
    )
    allow_origins = List(Unicode(), help="Origins, as scheme://host:port, whose pages may use this broker.").tag(
        config=True
    )
    ready_fd = Integer(-1, help="A descriptor that gets a line when the broker listens.").tag(config=True)
    pool_size = Integer(
        1, min=0, help="How many kernels to keep ready of each Python kernelspec in use; the default one, at first."
    ).tag(config=True)
    max_sessions = Integer(1000, min=1, help="How many sessions may be open at once.").tag(config=True)
    quiet = Bool(False, help="Print no reports.").tag(config=True)

    aliases = {  # noqa: RUF012
        **base_aliases,
        "ip": "ServeApp.ip",
        "port": "ServeApp.port",
        "data-dir": "BaseApp.broker_data_dir",
        "handover-after": "ServeApp.handover_after",
        "report-every": "ServeApp.report_every",
        "pool-size": "ServeApp.pool_size",
        "preload": "BrokerProvisioner.preload",
        "exit-when-idle": "ServeApp.exit_when_idle",
        "allow-host": "ServeApp.allow_hosts",
        "allow-origin": "ServeApp.allow_origins",
        "ready-fd": "ServeApp.ready_fd",
    }
    flags = {  # noqa: RUF012
        **base_flags,
        "quiet": ({"ServeApp": {"quiet": True}}, "Print no reports."),
    }

    @default("log_level")
    def _default_log_level(self) -> int:
        return logging.INFO

    def start(self) -> None:
        super().start()
        logging.getLogger("broker").parent = self.log
        logging.getLogger("tornado.access").setLevel(logging.ERROR)
        raise_limits()
        try:
            asyncio.run(self._serve())
        except (DataDirectoryInUse, JournalError, PermissionError, OSError) as error:
            self.log.critical("%s", error)
            self.exit(1)

    async def _serve(self) -> None:
        data_dir = resolve_data_dir(self.data_dir_given)
        lock = DataDirectoryLock(data_dir)
        lock.acquire()
        try:
            sockets = bind_sockets(self.port, self.ip)
        except OSError as error:
            raise OSError(
                f"cannot listen on {self.ip} port {self.port}: {error}; choose another with --port"
            ) from error
        host = f"[{self.ip}]" if ":" in self.ip else self.ip
        url = f"http://{host}:{sockets[0].getsockname()[1]}/"
        lock.publish(url)
        token = os.environ.pop("JUPYTER_BROKER_TOKEN", "") or secrets.token_urlsafe(32)

        journal = Journal(data_dir / "journal.sqlite")
        directory = kernel_directory(data_dir)
        sweep(directory, journal)
        manager = make_manager(directory, self.config)
        pool = Pool(manager, self.pool_size, self.start_timeout)
        broker = self._make_broker(journal, manager, pool)
        connections = Connections()
        journal.writer.on_stalled = lambda: connections.tell(status(journal))
        methods = Methods(broker, handover_after=self.handover_after)
        gate = Gate(token, hosts=[*LOOPBACK, host, *self.allow_hosts], allow_origins=self.allow_origins)
        server = make_server(make_application(gate, broker, methods, connections, mcp_routes(gate, url, token)))
        reporter = self._make_reporter(broker, connections)
        stop = stop_on_signals()
        broker.restore()
        pool.want(manager.default_kernel_name)
        server.add_sockets(sockets)
        started = datetime.now(UTC).isoformat()
        write_info(BrokerInfo(url=url, token=token, pid=os.getpid(), data_dir=str(data_dir), started_at=started))
        self.log.info("jupyter-broker %s listens on %s (journal: %s)", __version__, url, data_dir)
        self._say_ready()
        background = [asyncio.ensure_future(reporter.run())]
        if self.exit_when_idle:
            background.append(asyncio.ensure_future(self._stop_when_idle(broker, connections, stop)))
        try:
            await stop.wait()
        finally:
            self.log.info("stopping; %d kernels run on", len(broker.runners))
            # First, so that nobody comes any more; the lock is given up last, when the next broker may begin.
            remove_info(data_dir)
            server.stop()
            for task in background:
                task.cancel()
            await broker.stop()
            await pool.close()
            await end_fork_servers()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(server.close_all_connections(), 2)
            await journal.close()
            manager.context.destroy(linger=0)
            lock.release()

    def _make_broker(self, journal: Journal, manager: AsyncMultiKernelManager, pool: Pool) -> Broker:
        def make_driver(report: Report) -> KernelDriver:
            return JupyterDriver(report, manager, start_timeout=self.start_timeout, pool=pool)

        return Broker(
            journal,
            make_driver,
            lambda: kernelspecs(manager),
            default_kernel=manager.default_kernel_name,
            max_sessions=self.max_sessions,
        )

    def _make_reporter(self, broker: Broker, connections: Connections) -> Reporter:
        reporter = Reporter(broker, self.report_every)
        reporter.to(connections.report)
        if not self.quiet:
            reporter.to(lambda report: print_report(report, sys.stderr))
        return reporter

    def _say_ready(self) -> None:
        if self.ready_fd >= 0:
            os.write(self.ready_fd, b"ready\n")
            os.close(self.ready_fd)

    async def _stop_when_idle(self, broker: Broker, connections: Connections, stop: asyncio.Event) -> None:
        """Stop after a while in which there was no session (so no execution either) and no client."""
        loop = asyncio.get_running_loop()
        idle_since = loop.time()
        while True:
            await asyncio.sleep(min(self.exit_when_idle / 10, 10))
            if broker.runners or len(connections):
                idle_since = loop.time()
            elif loop.time() - idle_since >= self.exit_when_idle:
                self.log.info("nobody has needed this broker for %g seconds", self.exit_when_idle)
                stop.set()
                return


def raise_limits() -> None:
    """Let this process have as many files open as it may: a kernel takes a dozen."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def stop_on_signals() -> asyncio.Event:
    """An event that SIGTERM and SIGINT set."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop


def make_server(application: Application) -> HTTPServer:
    """The HTTP server, with bounds on all that a client could let it wait for, or fill it with."""
    return HTTPServer(
        application,
        max_body_size=MAX_TRANSPORT,
        max_header_size=65_536,
        body_timeout=60,
        idle_connection_timeout=3600,
    )


def make_application(
    gate: Gate, broker: Broker, methods: Methods, connections: Connections, more: Sequence[URLSpec] = ()
) -> Application:
    """The routes. All but ``health`` and the page's own files need the token."""
    rpc = Rpc(methods)
    base = {"gate": gate}
    metrics = registry(broker, connections)
    return Application(
        [
            URLSpec(f"/{API}ws", Socket, {**base, "rpc": rpc, "journal": broker.journal, "connections": connections}),
            URLSpec(f"/{API}rpc", RpcHandler, {**base, "rpc": rpc}),
            URLSpec(f"/{API}health", HealthHandler, {**base, "journal": broker.journal}),
            URLSpec(f"/{API}openrpc.json", SchemaHandler, base),
            URLSpec(f"/{API}sessions/([^/]+)/notebook", NotebookHandler, {**base, "methods": methods}),
            URLSpec("/metrics", MetricsHandler, {**base, "registry": metrics}),
            *page_routes(gate),
            *more,
        ],
        default_handler_class=NotFound,
        default_handler_args=base,
        websocket_max_message_size=MAX_TRANSPORT,
    )


def kernelspecs(manager: AsyncMultiKernelManager) -> dict[str, dict[str, str]]:
    """The kernelspecs that are installed, by name."""
    assert manager.kernel_spec_manager is not None
    return {
        name: {"display_name": spec["spec"]["display_name"], "language": spec["spec"]["language"]}
        for name, spec in manager.kernel_spec_manager.get_all_specs().items()
    }


main = ServeApp.launch_instance
