"""The panel is committed as it was built, so that installing it needs no Node.js. These tell when that is stale."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import broker

LAB = Path(broker.__file__).parent / "lab"
PANEL, BUILD = LAB / "panel", LAB / "labextension"
AGAIN = "build it again, as broker/lab/panel/README.md says, and commit broker/lab/labextension"


def test_the_committed_build_is_of_the_sources_as_they_are() -> None:
    names = sorted(
        [
            *(f"{folder}/{path.name}" for folder in ("src", "style") for path in (PANEL / folder).iterdir()),
            *("package.json", "package-lock.json", "tsconfig.json"),
        ]
    )
    found = hashlib.sha256()
    for name in names:
        content = (PANEL / name).read_bytes()
        found.update(f"{name}\0{len(content)}\0".encode() + content)
    assert (BUILD / "sources.sha256").read_text().strip() == found.hexdigest(), AGAIN


def test_the_build_is_whole_and_has_the_version_of_the_broker() -> None:
    package = json.loads((BUILD / "package.json").read_text())
    assert (BUILD / package["jupyterlab"]["_build"]["load"]).is_file(), AGAIN
    assert package["version"] == broker.__version__, f"set the version in broker/lab/panel/package.json, and {AGAIN}"
