"""Which kernels keep an outbox, which are started with our own launcher, and where that is.

Any kernelspec that starts ipykernel benefits: its interpreter, its arguments and its environment stay, and only what
it runs is ours. It is started by path, so nothing has to be installed in that environment.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

from jupyter_client.kernelspec import KernelSpec

_PACKAGE = Path(__file__).resolve().parent.parent
DIRECTORY = next(
    (path for path in (_PACKAGE / "kernels" / "python", _PACKAGE.parent / "kernels" / "python") if path.is_dir()), None
)
"""The folder of the Python kernel: in the installed package, or beside it in a checkout."""
STOCK_MODULES = ("ipykernel_launcher", "ipykernel", "ipykernel.kernelapp")
METADATA = "jupyter-broker"
"""The key of a kernelspec's ``metadata`` that is ours: ``{"launcher": "stock"}`` leaves its command as it is,
``{"launcher": "own"}`` says that it starts a copy of our launcher, and ``{"outbox": true}`` that it keeps an outbox by
itself."""


def own_command(command: Sequence[str], spec: KernelSpec | None) -> list[str] | None:
    """The command that starts this kernel with our launcher; None if it is no ipykernel, or is not to be changed."""
    wishes = spec.metadata.get(METADATA, {}) if spec is not None else {}
    if DIRECTORY is None or wishes.get("launcher") == "stock":
        return None
    launch = str(DIRECTORY / "launch.py")
    for index, (flag, module) in enumerate(itertools.pairwise(command)):
        if flag == "-m" and module in STOCK_MODULES:
            return [*command[:index], launch, *command[index + 2 :]]
    if wishes.get("launcher") == "own":
        # Jupyter finds a copy of the folder; the one that came with this broker is the one it can talk to and fork.
        return [launch if Path(argument).name == "launch.py" else argument for argument in command]
    return list(command) if launch in command else None


def keeps_outbox(command: Sequence[str], spec: KernelSpec | None) -> bool:
    """Whether this kernel keeps an outbox: it is started with our launcher, or its kernelspec says so."""
    wishes = spec.metadata.get(METADATA, {}) if spec is not None else {}
    return wishes.get("outbox") is True or own_command(command, spec) is not None
