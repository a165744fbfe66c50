"""The broker inside Jupyter Server, and so inside JupyterLab. See ``docs/lab.md``."""

from __future__ import annotations

from typing import Any


def _jupyter_server_extension_points() -> list[dict[str, Any]]:
    from .extension import BrokerExtension  # noqa: PLC0415 (without Jupyter Server there is none to import)

    return [{"module": "broker.lab.extension", "app": BrokerExtension}]
