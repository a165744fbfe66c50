"""The kernel manager of a broker: kernels on Unix sockets, in a directory of their own, that outlive this process."""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path
from typing import Any

import zmq.asyncio
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from jupyter_client.multikernelmanager import AsyncMultiKernelManager
from jupyter_core.paths import jupyter_runtime_dir
from traitlets.config import Config

from .provisioner import BrokerProvisioner

LONGEST_IPC_DIRECTORY = 107 - len("/01234567/kernel-00000000-0000-0000-0000-000000000000-ipc-5")
"""A Unix socket's path has at most 107 bytes (``unix(7)``)."""


class BrokerKernelManager(AsyncKernelManager):
    """One kernel. It is started by our provisioner, unless its kernelspec names another."""

    async def _async_pre_start_kernel(self, **kwargs: Any) -> Any:
        # Not by the default of jupyter_client's factory: that is one for the whole process, which may have other
        # kernels, and they are none of ours.
        spec = self.kernel_spec
        if self.provisioner is None and spec is not None and "kernel_provisioner" not in spec.metadata:
            self.kernel_id = self.kernel_id or kwargs["kernel_id"]
            self.provisioner = BrokerProvisioner(kernel_id=self.kernel_id, kernel_spec=spec, parent=self)
        return await super()._async_pre_start_kernel(**kwargs)


def make_manager(
    connection_dir: Path,
    config: Config | None = None,
    *,
    kernel_class: type[BrokerKernelManager] = BrokerKernelManager,
    kernel_specs: KernelSpecManager | None = None,
) -> AsyncMultiKernelManager:
    """A kernel manager whose kernels listen on Unix sockets in ``connection_dir``, and outlive this process."""
    context: zmq.asyncio.Context = zmq.asyncio.Context()
    context.max_sockets = 65_535
    # ZeroMQ drops silently what is above its marks; a client of ours reads all, or is cut off.
    context.setsockopt(zmq.RCVHWM, 0)
    ours = Config()
    ours.KernelManager.transport = "ipc"
    ours.BrokerProvisioner.keep_outbox = True
    ours.merge(config or Config())
    return AsyncMultiKernelManager(
        config=ours,
        context=context,
        # What to do about a kernel that dies is for its session to say: none of these has a restarter.
        kernel_manager_class=f"{kernel_class.__module__}.{kernel_class.__qualname__}",
        kernel_spec_manager=kernel_specs or KernelSpecManager(config=ours),
        connection_dir=str(connection_dir),
    )


def kernel_directory(data_dir: Path) -> Path:
    """Where this broker's kernels' sockets, connection files and outboxes are.

    For the owner only, with a short name, and for one data directory: what nobody knows in it is nobody's.
    """
    ours = f"jupyter-broker-{os.getuid()}"
    places = (Path(jupyter_runtime_dir(), "broker"), Path(tempfile.gettempdir(), ours), Path("/tmp", ours))
    # The last one is for a batch job, say, whose TMPDIR is long too.
    directory = next((place for place in places if len(os.fsencode(place)) <= LONGEST_IPC_DIRECTORY), places[-1])
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = directory.lstat()
    if status.st_uid != os.getuid() or not directory.is_dir() or directory.is_symlink():
        raise PermissionError(f"{directory} belongs to somebody else; set JUPYTER_RUNTIME_DIR to a shorter path")
    directory.chmod(0o700)
    directory /= hashlib.sha256(os.fsencode(data_dir.resolve())).hexdigest()[:8]
    directory.mkdir(mode=0o700, exist_ok=True)
    return directory
