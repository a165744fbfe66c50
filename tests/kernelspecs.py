"""Kernels that misbehave on purpose, as kernelspecs of one broker's own."""

from __future__ import annotations

import json
import sys

from .running import BrokerProcess

IPYKERNEL = "import runpy, sys; sys.argv = ['ipykernel_launcher', '-f', sys.argv[1]]; {before}\n"
IPYKERNEL += "runpy.run_module('ipykernel_launcher', run_name='__main__')"


def install(broker: BrokerProcess, name: str, argv: list[str], **more: object) -> None:
    """Install a kernelspec, as ``jupyter kernelspec install`` does. ``more`` goes into it as it is."""
    directory = broker.root / "data" / "kernels" / name
    directory.mkdir(parents=True)
    spec = {"argv": argv, "display_name": f"Kernel {name}", "language": "python", **more}
    (directory / "kernel.json").write_text(json.dumps(spec))


def install_python(broker: BrokerProcess, name: str, code: str) -> None:
    """Install a kernel that is nothing but this code. ``sys.argv[1]`` is the connection file."""
    install(broker, name, [sys.executable, "-c", code, "{connection_file}"])


def install_ipykernel(broker: BrokerProcess, name: str, before: str) -> None:
    """Install ipykernel, with a statement that it runs before it starts."""
    install_python(broker, name, IPYKERNEL.format(before=before))
