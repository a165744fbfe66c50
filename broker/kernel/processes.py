"""Starting kernels with jupyter_client, and removing what dead ones leave behind."""

from __future__ import annotations

import contextlib
import os

from jupyter_client.manager import KernelManager
from jupyter_client.multikernelmanager import AsyncMultiKernelManager
from jupyter_core.utils import ensure_async

from .descriptors import enough
from .provisioner import BrokerProvisioner


async def start(
    manager: AsyncMultiKernelManager, kernel: str, kernel_id: str, *, cwd: str, env: dict[str, str]
) -> KernelManager:
    """Start a kernel in the broker's environment, less the token, plus ``env``.

    Raises:
        TooManyOpenFiles: it was not begun.
        Exception: whatever a kernelspec or a provisioner can fail with.
    """
    inherited = {name: value for name, value in os.environ.items() if name != "JUPYTER_BROKER_TOKEN"}
    try:
        async with enough():
            await manager.start_kernel(kernel_name=kernel, kernel_id=kernel_id, cwd=cwd, env=inherited | env)
    except BaseException:
        manager._pending_kernels.pop(kernel_id, None)
        raise
    km: KernelManager = manager.get_kernel(kernel_id)
    # Unset, the file would go with this process, and the kernel could not be found again.
    km._connection_file_written = False
    return km


def provisioner_of(km: KernelManager) -> BrokerProvisioner:
    provisioner = km.provisioner
    assert isinstance(provisioner, BrokerProvisioner), "a broker's manager makes no other"
    return provisioner


async def bury(manager: AsyncMultiKernelManager, km: KernelManager) -> None:
    """Remove what a dead kernel leaves behind, but its outbox."""
    provisioner = provisioner_of(km)
    with contextlib.suppress(KeyError):
        manager.remove_kernel(km.kernel_id)
    await provisioner.wait()
    with contextlib.suppress(OSError):
        os.remove(provisioner.log_file)
    await ensure_async(km.cleanup_resources())
    with contextlib.suppress(OSError):
        os.remove(km.connection_file)
