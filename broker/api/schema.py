"""The API's machine-readable description, in OpenRPC, from the very types that validate requests."""

from __future__ import annotations

import functools
import inspect
from typing import Any

import msgspec

from .. import __version__
from ..core import errors
from . import types
from .methods import METHODS

REF = "#/components/schemas/{name}"


class EventNotification(types.Result):
    """Params of the notification ``event``."""

    subscription: str
    event: types.Event


NOTIFICATIONS = {"event": EventNotification, "execution_report": types.Report, "broker_status": types.BrokerStatus}


@functools.cache
def openrpc() -> dict[str, Any]:
    """The description, as https://spec.open-rpc.org has it. Notifications are under ``x-notifications``."""
    used = [type for method in METHODS.values() for type in (method.params, method.result)]
    schemas, components = msgspec.json.schema_components([*used, *NOTIFICATIONS.values()], ref_template=REF)
    for component in components.values():
        if said := component.get("description"):
            # How a docstring is indented depends on the version of Python.
            component["description"] = inspect.cleandoc(said)
    by_type = dict(zip([*used, *NOTIFICATIONS.values()], schemas, strict=True))
    return {
        "openrpc": "1.3.2",
        "info": {
            "title": "jupyter-broker",
            "version": __version__,
            "description": "Runs code on Jupyter kernels. JSON-RPC 2.0 over the WebSocket api/broker/v1/ws "
            "(subprotocol broker.v1) and over POST api/broker/v1/rpc; params by name.",
        },
        "methods": [
            {
                "name": method.name,
                "summary": method.doc,
                "paramStructure": "by-name",
                "params": _params(components[method.params.__name__]),
                "result": {"name": method.result.__name__, "schema": by_type[method.result]},
            }
            for method in METHODS.values()
        ],
        "x-notifications": [
            {"name": name, "summary": (type.__doc__ or "").strip(), "params": by_type[type]}
            for name, type in NOTIFICATIONS.items()
        ],
        "x-errors": [
            {"type": error.type, "code": error.code, "meaning": (error.__doc__ or "").strip()}
            for error in errors.BrokerError.__subclasses__()
        ],
        "components": {"schemas": components},
    }


def _params(schema: dict[str, Any]) -> list[dict[str, Any]]:
    required = schema.get("required", [])
    return [
        {"name": name, "required": name in required, "schema": of} for name, of in schema.get("properties", {}).items()
    ]


if __name__ == "__main__":
    # `python -m broker.api.schema > docs/openrpc.json`
    print(msgspec.json.format(msgspec.json.encode(openrpc())).decode())
