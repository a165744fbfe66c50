"""The page: what a person without JupyterLab sees of the broker, at its own address.

Its files are plain HTML, CSS and JavaScript modules in ``static/``, served as they are: change one and reload. They
hold nothing secret and so need no token; everything that they show comes over the WebSocket, which does.

What executions print is not to be trusted. As text and as images it is made part of the page by text nodes and
``data:`` URLs alone (Trusted Types forbid the rest). HTML, SVG and Markdown are shown by ``frame.html``, in a sandbox:
an origin of its own, without network, forms, windows or any way to the page around it. Scripts of theirs run only
when the reader says so.
"""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path

from tornado.routing import URLSpec

from ..api.auth import Gate
from ..api.http import Entrance

STATIC = Path(__file__).parent / "static"
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data: blob:; "
    "frame-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
FRAME_POLICY = (
    "sandbox allow-scripts; default-src 'none'; script-src {scripts}; style-src 'unsafe-inline'; "
    "img-src data: blob:; media-src data: blob:; font-src data:; "
    "frame-ancestors 'self'; base-uri 'none'; form-action 'none'"
)
"""For untrusted HTML, in an opaque origin and with nowhere to send anything."""
FRAMES = {"frame.html": False, "scripts.html": True}
"""Where the sandbox is, and whether scripts of what it shows run there; its own, which measures, always does."""
FEATURES = ", ".join(
    f"{feature}=()"
    for feature in ("camera", "microphone", "geolocation", "display-capture", "usb", "serial", "hid", "payment")
)


class PageHandler(Entrance):
    """One file of the page. Which, is said by its route: no part of a request is ever a path."""

    open_to_all = True

    def initialize(self, gate: Gate, file: Path, name: str) -> None:  # type: ignore[override]
        super().initialize(gate)
        self._file, self._name = file, name

    def set_default_headers(self) -> None:
        super().set_default_headers()
        self.set_header("Cache-Control", "no-cache")
        self.set_header("Referrer-Policy", "no-referrer")
        self.set_header("Permissions-Policy", FEATURES)
        self.set_header("X-DNS-Prefetch-Control", "off")
        self.set_header("Cross-Origin-Opener-Policy", "same-origin")
        self.set_header("Cross-Origin-Resource-Policy", "same-origin")

    def get(self) -> None:
        content = self._file.read_bytes()
        self.set_header("Content-Type", TYPES[self._file.suffix])
        self.set_header("Content-Security-Policy", policy(self._name, content))
        self.finish(content)


def policy(name: str, content: bytes) -> str:
    """What a file may do."""
    if name not in FRAMES:
        return POLICY
    own = content.partition(b"<script>")[2].partition(b"</script>")[0]
    digest = base64.b64encode(hashlib.sha256(own).digest()).decode()
    return FRAME_POLICY.format(scripts="'unsafe-inline'" if FRAMES[name] else f"'sha256-{digest}'")


def routes(gate: Gate) -> list[URLSpec]:
    """A route for each file, and ``/`` for ``index.html``."""
    files = {file.name: file for file in sorted(STATIC.iterdir()) if file.suffix in TYPES}
    files |= dict.fromkeys(FRAMES, STATIC / "frame.html")
    return [
        URLSpec(
            "/" if name == "index.html" else f"/page/{name}", PageHandler, {"gate": gate, "file": file, "name": name}
        )
        for name, file in files.items()
    ]
