"""Where the peers are installed: an environment for each, made when it is first needed, and kept."""

from __future__ import annotations

import functools
import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path


class NotInstalled(Exception):
    """A peer could not be installed. The message is the installer's last word."""


class Installs:
    """A directory of environments, one for each peer, so that none changes what another is."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def python(self, name: str, requirements: Sequence[str]) -> Path:
        """The interpreter of an environment that has ``requirements``.

        Raises:
            NotInstalled: pip could not install them.
        """
        environment = self.directory / name
        python = environment / "bin" / "python"
        self._once(
            environment,
            requirements,
            [sys.executable, "-m", "venv", "--clear", str(environment)],
            [str(python), "-m", "pip", "install", "--quiet", *requirements],
        )
        return python

    def npm(self, package: str, version: str) -> Path:
        """The folder of an npm package.

        Its dependencies' install scripts are left out: they download binaries that no case here uses.

        Raises:
            NotInstalled: npm could not install it, or is not there.
        """
        prefix = self.directory / package
        prefix.mkdir(parents=True, exist_ok=True)
        if shutil.which("npm") is None:
            raise NotInstalled("npm is not on the PATH")
        command = ["npm", "install", "--silent", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", str(prefix)]
        self._once(prefix, [f"{package}@{version}"], [*command, f"{package}@{version}"])
        return prefix / "node_modules" / package

    def _once(self, directory: Path, wanted: Sequence[str], *commands: Sequence[str]) -> None:
        """Run these commands, unless they once ran to their end for the same wishes."""
        stamp = directory / "installed.json"
        if stamp.exists() and json.loads(stamp.read_text()) == list(wanted):
            return
        for command in commands:
            ran = subprocess.run(command, capture_output=True, text=True, check=False)
            if ran.returncode != 0:
                words = (ran.stderr or ran.stdout).strip().splitlines() or [f"exit status {ran.returncode}"]
                raise NotInstalled(words[-1])
        stamp.write_text(json.dumps(list(wanted)))


@functools.cache
def version_of(python: Path, distribution: str) -> str:
    """The version of a distribution in an environment."""
    ask = f"import importlib.metadata as m; print(m.version({distribution!r}))"
    return subprocess.run([str(python), "-c", ask], capture_output=True, text=True, check=True).stdout.strip()
