"""The Jupyter Server extension: the same broker, inside the server."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jupyter_server.extension.application import ExtensionApp
from jupyter_server.serverapp import ServerApp
from jupyter_server.services.contents.filemanager import FileContentsManager
from jupyter_server.services.kernels.connection.channels import ZMQChannelsWebsocketConnection
from jupyter_server.services.kernels.kernelmanager import MappingKernelManager
from traitlets import Bool, Float, Integer, Unicode
from traitlets.config import Config

from .. import __version__
from ..app import raise_limits
from ..composition import Composition, Settings
from ..core.records import SessionRecord
from ..discovery import (
    DATA_DIR_VARIABLE,
    BrokerInfo,
    DataDirectoryInUse,
    DataDirectoryLock,
    remove_info,
    resolve_data_dir,
    write_info,
)
from ..journal import JournalError
from ..kernel.manager import make_manager
from ..notebooks import Notebooks, SharedDocuments
from .connection import watched
from .door import PREFIX, ServerGate, rules
from .kernels import LabKernel, share, share_sessions
from .mirror import Mirror
from .takeover import take_over

OUR_CONFIG = ("BrokerProvisioner", "Session", "MultiKernelManager")
"""What of the server's configuration is the broker's kernels' too. The rest is about kernels that are none of ours."""


class BrokerExtension(ExtensionApp):
    """Runs a broker for as long as the server runs. Kernels of sessions outlive both."""

    name = "broker"
    extension_url = f"/{PREFIX}"
    load_other_extensions = True

    data_dir = Unicode(
        help=f"The broker's data directory; also {DATA_DIR_VARIABLE} in the environment. The default is `broker` in "
        "the Jupyter data directory."
    ).tag(config=True)
    folder = Unicode(
        "broker-sessions", help="Where sessions are in the server's file browser, relative to its root directory."
    ).tag(config=True)
    notebooks = Bool(True, help="Whether each session is kept as a notebook in that folder.").tag(config=True)
    handover_after = Float(30.0, min=0, help="Seconds after which a caller gets control back, unless it says.").tag(
        config=True
    )
    report_every = Float(60.0, min=0.05, help="Seconds between two reports of what runs.").tag(config=True)
    start_timeout = Float(60.0, min=1, help="Seconds in which a kernel must get ready.").tag(config=True)
    pool_size = Integer(1, min=0, help="How many kernels to keep ready of each Python kernelspec in use.").tag(
        config=True
    )
    max_sessions = Integer(1000, min=1, help="How many sessions may be open at once.").tag(config=True)

    composition: Composition | None = None
    """The broker, where this server has it."""
    _lock: DataDirectoryLock | None = None

    async def _start_jupyter_server_extension(self, serverapp: ServerApp) -> None:
        # Only now there is a loop for the broker to run on. A server that cannot have it is left as it was.
        logging.getLogger("broker").parent = self.log
        try:
            self._lock = await take_over(resolve_data_dir(self.data_dir or None))
            await self._run(serverapp, self._lock)
        except DataDirectoryInUse as error:
            self.log.warning("This server runs no broker: %s", error)
        except (JournalError, OSError) as error:
            self.log.error("This server runs no broker: %s", error)
            if self._lock:
                self._lock.release()

    async def _run(self, serverapp: ServerApp, lock: DataDirectoryLock) -> None:
        raise_limits()
        config = Config({name: serverapp.config[name] for name in OUR_CONFIG if name in serverapp.config})

        def manager(directory: Path) -> Any:
            specs = serverapp.kernel_spec_manager
            made = make_manager(directory, config, kernel_class=LabKernel, kernel_specs=specs)
            made.default_kernel_name = serverapp.kernel_manager.default_kernel_name
            return made

        settings = Settings(
            handover_after=self.handover_after,
            report_every=self.report_every,
            start_timeout=self.start_timeout,
            pool_size=self.pool_size,
            max_sessions=self.max_sessions,
        )
        composition = self.composition = Composition(lock.data_dir, manager, settings)
        self._share_kernels(serverapp, composition)
        token, url = secrets.token_urlsafe(32), local_url(serverapp) + PREFIX
        routes = composition.routes(ServerGate(serverapp, token), url, token)
        composition.start()
        serverapp.web_app.add_handlers(".*$", rules(routes, serverapp.base_url))
        lock.publish(url)
        started = datetime.now(UTC).isoformat()
        if serverapp.sock:
            self.log.warning("commands do not find this broker: its server listens on a Unix socket")
            return
        write_info(
            BrokerInfo(
                url=url,
                token=token,
                pid=os.getpid(),
                data_dir=str(lock.data_dir),
                started_at=started,
                in_server=True,
            )
        )
        self.log.info("jupyter-broker %s runs in this server: %s (journal: %s)", __version__, url, lock.data_dir)

    def _share_kernels(self, serverapp: ServerApp, composition: Composition) -> None:
        """Let people use the broker's kernels as they use any of the server's."""
        settings, manager = serverapp.web_app.settings, serverapp.kernel_manager
        connection_class = serverapp.kernel_websocket_connection_class
        if serverapp.gateway_config.gateway_enabled or not (
            isinstance(manager, MappingKernelManager) and issubclass(connection_class, ZMQChannelsWebsocketConnection)
        ):
            self.log.warning("the broker's kernels are not listed: this server's kernels are not its own")
            return
        shared = share(manager, composition.broker)
        share_sessions(serverapp.session_manager)
        page = serverapp.base_url + PREFIX
        connection_class = watched(connection_class, page)
        serverapp.kernel_websocket_connection_class = connection_class
        settings["kernel_websocket_connection_class"] = connection_class
        mirror = Mirror(composition.broker, composition.manager, shared, serverapp.session_manager, self._places)
        self._keep_notebooks(serverapp, composition, mirror)
        composition.readers.append(mirror)

    def _keep_notebooks(self, serverapp: ServerApp, composition: Composition, mirror: Mirror) -> None:
        """Keep each session as a notebook, if the files that this server shows are on this machine."""
        if not self.notebooks or not isinstance(serverapp.contents_manager, FileContentsManager):
            return
        root, settings = Path(serverapp.contents_manager.root_dir), serverapp.web_app.settings
        documents = SharedDocuments(lambda: settings.get("jupyter_server_ydoc"))
        relisting: set[asyncio.Task[None]] = set()

        def moved(session_id: str) -> None:
            task = asyncio.ensure_future(mirror.relist(session_id))
            relisting.add(task)
            task.add_done_callback(relisting.discard)

        async def language_of(session: SessionRecord) -> dict[str, Any] | None:
            kernel = composition.manager._kernels.get(session.kernel_id or "")
            return await kernel.language() if isinstance(kernel, LabKernel) else None

        composition.readers.append(
            Notebooks(
                composition.broker,
                root / self.folder,
                root=root,
                shared=documents,
                on_moved=moved,
                language_of=language_of,
            )
        )

    def _places(self, session: SessionRecord) -> list[tuple[str, str, str]]:
        """Under which paths and names a session is listed, and as what."""
        places = [(f"{self.folder}/{session.name}", session.name, "console")]
        notebooks = self.composition.broker.notebooks if self.composition else None
        if notebooks and (path := notebooks.path_of(session.session_id)):
            places.append((path, Path(path).name, "notebook"))
        return places

    async def stop_extension(self) -> None:
        """Let go of the kernels before the server ends all that it has."""
        composition, lock = self.composition, self._lock
        if composition is None or lock is None:
            return
        self.composition = None
        self.log.info("the broker stops; %d kernels run on", len(composition.broker.runners))
        remove_info(lock.data_dir)
        await composition.stop()
        # Requests under way end with the connections, which the server is about to close.
        await asyncio.sleep(0)
        await composition.close()
        lock.release()


def local_url(serverapp: ServerApp) -> str:
    """The server's base URL, as it is reached from this machine."""
    ip = serverapp.ip if serverapp.ip not in ("", "*", "0.0.0.0", "::") else "127.0.0.1"
    scheme = "https" if serverapp.certfile else "http"
    host = f"[{ip}]" if ":" in ip else ip
    return f"{scheme}://{host}:{serverapp.port}{serverapp.base_url}"
