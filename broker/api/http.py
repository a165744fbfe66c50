"""The API over plain HTTP: calls, health, metrics, the schema, and a session as a notebook."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from tornado.web import RequestHandler

from .. import __version__
from ..core.errors import BrokerError, Unauthorized, UnknownSession
from ..journal import Journal
from .auth import Gate, Refused
from .methods import Caller, Methods
from .rpc import Rpc
from .schema import openrpc


class Entrance(RequestHandler):
    """What every route goes through. ``open_to_all``: it needs no token."""

    open_to_all = False
    caller: Caller
    """Who calls, where not open to all."""

    def initialize(self, gate: Gate) -> None:
        self._gate = gate

    def set_default_headers(self) -> None:
        self.set_header("Server", "jupyter-broker")
        self.set_header("X-Content-Type-Options", "nosniff")
        self.set_header("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
        self.set_header("Cache-Control", "no-store")

    async def prepare(self) -> None:
        try:
            if caller := await self._gate.admit(self, open_to_all=self.open_to_all):
                self.caller = caller
        except Refused as refused:
            self.set_status(refused.status)
            if refused.status == 401:
                self.set_header("WWW-Authenticate", 'Bearer realm="jupyter-broker"')
            self._reply({"error": {"message": refused.message, "data": {"type": Unauthorized.type}}})

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        self._reply({"error": {"message": f"{status_code} {self._reason}", "data": {"type": "http_error"}}})

    def _reply(self, value: Any) -> None:
        self.set_header("Content-Type", "application/json")
        self.finish(msgspec.json.encode(value))


class NotFound(Entrance):
    """Any other path; says so only to those who may ask."""

    async def prepare(self) -> None:
        await super().prepare()
        if not self._finished:
            self.set_status(404)
            self.write_error(404)


class RpcHandler(Entrance):
    """``POST rpc``: the requests of the WebSocket, one or a batch a time. A caller that goes away waits no longer."""

    def initialize(self, gate: Gate, rpc: Rpc) -> None:  # type: ignore[override]
        super().initialize(gate)
        self._rpc = rpc
        self._answering: asyncio.Future[bytes | None] | None = None

    async def post(self) -> None:
        self._answering = asyncio.ensure_future(self._rpc.answer(self.request.body, self.caller))
        try:
            answer = await self._answering
        except asyncio.CancelledError:
            return
        if answer is None:
            self.set_status(204)
            return
        self.set_header("Content-Type", "application/json")
        self.finish(answer)

    def on_connection_close(self) -> None:
        if self._answering:
            self._answering.cancel()


class HealthHandler(Entrance):
    """``GET health``: whether the broker can do its work. Says nothing about anybody's."""

    open_to_all = True

    def initialize(self, gate: Gate, journal: Journal) -> None:  # type: ignore[override]
        super().initialize(gate)
        self._journal = journal

    def get(self) -> None:
        stalled = self._journal.stalled
        if stalled:
            self.set_status(503)
        self._reply({"status": "stalled" if stalled else "ok", "version": __version__, "reason": stalled})


class SchemaHandler(Entrance):
    """``GET openrpc.json``"""

    def get(self) -> None:
        self._reply(openrpc())


class MetricsHandler(Entrance):
    """``GET metrics``: Prometheus text."""

    def initialize(self, gate: Gate, registry: CollectorRegistry) -> None:  # type: ignore[override]
        super().initialize(gate)
        self._registry = registry

    def get(self) -> None:
        self.set_header("Content-Type", CONTENT_TYPE_LATEST)
        self.finish(generate_latest(self._registry))


class NotebookHandler(Entrance):
    """``GET sessions/{id}/notebook``: the session as ``.ipynb``."""

    def initialize(self, gate: Gate, methods: Methods) -> None:  # type: ignore[override]
        super().initialize(gate)
        self._methods = methods

    async def get(self, ref: str) -> None:
        try:
            name, notebook = await self._methods.notebook(self.caller, ref)
            await self._methods.settled()
        except UnknownSession as error:
            self.set_status(404)
            self._reply({"error": _error(error)})
            return
        self.set_header("Content-Type", "application/x-ipynb+json")
        self.set_header("Content-Disposition", f'attachment; filename="{name}.ipynb"')
        self.finish(notebook)


def _error(error: BrokerError) -> dict[str, Any]:
    return {"code": error.code, "message": error.message, "data": {**error.data, "type": error.type}}
