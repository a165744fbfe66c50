"""``jupyter broker serve``: a broker with a front door of its own."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import resource
import secrets
import signal
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from inspect import cleandoc
from pathlib import Path

from jupyter_core.application import base_aliases, base_flags
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.routing import URLSpec
from tornado.web import Application
from traitlets import Bool, Float, Integer, List, Unicode, default

from . import __version__
from .api.auth import LOOPBACK, Gate
from .api.http import NotFound
from .api.rpc import MAX_TRANSPORT
from .cli.base import BaseApp
from .composition import Composition, Settings
from .discovery import (
    BrokerInfo,
    DataDirectoryInUse,
    DataDirectoryLock,
    remove_info,
    resolve_data_dir,
    write_info,
)
from .journal import JournalError
from .kernel.manager import make_manager
from .kernel.provisioner import BrokerProvisioner
from .notebooks import Notebooks
from .views.reports import print_report

SWITCH = 0.0001
"""Seconds that a thread waits for another to let it run. With Python's 0.005, the thread that synchronises the journal
would begin only when the event loop has nothing left to do."""


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
    port = Integer(8890, min=0, max=65535, help="The port to listen on; 0 picks one that is free.").tag(config=True)
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
    notebooks = Unicode("", help="A folder in which each session is kept as a notebook; none if left out.").tag(
        config=True
    )
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
        "notebooks": "ServeApp.notebooks",
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
        if self.extra_args:
            print(f"{self.title}: one argument too many: {self.extra_args[0]!r}; see --help", file=sys.stderr)
            self.exit(2)
        logging.getLogger("broker").parent = self.log
        logging.getLogger("tornado.access").setLevel(logging.ERROR)
        raise_limits()
        sys.setswitchinterval(SWITCH)
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

        settings = Settings(
            handover_after=self.handover_after,
            report_every=self.report_every,
            start_timeout=self.start_timeout,
            pool_size=self.pool_size,
            max_sessions=self.max_sessions,
        )
        composition = Composition(data_dir, lambda directory: make_manager(directory, self.config), settings)
        if self.notebooks:
            composition.readers.append(Notebooks(composition.broker, Path(self.notebooks)))
        if not self.quiet:
            composition.reporter.to(lambda report: print_report(report, sys.stderr))
        gate = Gate(token, hosts=[*LOOPBACK, host, *self.allow_hosts], allow_origins=self.allow_origins)
        server = make_server(make_application(gate, composition.routes(gate, url, token)))
        stop = stop_on_signals()
        composition.start()
        composition.pool.want(composition.manager.default_kernel_name)
        server.add_sockets(sockets)
        started = datetime.now(UTC).isoformat()
        write_info(BrokerInfo(url=url, token=token, pid=os.getpid(), data_dir=str(data_dir), started_at=started))
        self.log.info("jupyter-broker %s listens on %s (journal: %s)", __version__, url, data_dir)
        self._say_ready()
        idle = self.exit_when_idle and asyncio.ensure_future(self._stop_when_idle(composition, stop))
        try:
            await stop.wait()
        finally:
            self.log.info("stopping; %d kernels run on", len(composition.broker.runners))
            # First, so that nobody comes any more; the lock is given up last, when the next broker may begin.
            remove_info(data_dir)
            server.stop()
            if idle:
                idle.cancel()
            await composition.stop()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(server.close_all_connections(), 2)
            await composition.close()
            lock.release()

    def _say_ready(self) -> None:
        if self.ready_fd >= 0:
            os.write(self.ready_fd, b"ready\n")
            os.close(self.ready_fd)

    async def _stop_when_idle(self, composition: Composition, stop: asyncio.Event) -> None:
        """Stop after a while in which there was no session (so no execution either) and no client."""
        loop = asyncio.get_running_loop()
        idle_since = loop.time()
        while True:
            await asyncio.sleep(min(self.exit_when_idle / 10, 10))
            if composition.broker.runners or len(composition.connections):
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


def make_application(gate: Gate, routes: Sequence[URLSpec]) -> Application:
    """The routes, and nothing else."""
    return Application(
        list(routes),
        default_handler_class=NotFound,
        default_handler_args={"gate": gate},
        websocket_max_message_size=MAX_TRANSPORT,
    )


main = ServeApp.launch_instance
