"""The broker's routes inside Jupyter Server: under its base URL, and behind its own door.

Whoever the server's identity provider knows comes in, by a token in the header, by a token as a subprotocol, or by the
server's cookie; and so does who has the token of the discovery file, which is what commands of the same user have. The
broker's stricter rules hold beside the server's: no token in an address, and origins exactly.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Iterable
from typing import Any
from urllib.parse import urlsplit

from jupyter_core.utils import ensure_async
from jupyter_server.auth.decorator import allow_unauthenticated
from jupyter_server.base.handlers import JupyterHandler
from jupyter_server.serverapp import ServerApp
from tornado.routing import URLSpec
from tornado.web import HTTPError, RequestHandler

from ..api.auth import Gate, Refused, token_of
from ..api.methods import Caller
from ..api.rpc import MAX_TRANSPORT
from ..api.websocket import Socket
from ..composition import API

PREFIX = "broker/"
"""Where under the server's base URL everything is that a broker alone has at its root."""
SAFE = ("GET", "HEAD", "OPTIONS")

Rule = tuple[str, type[RequestHandler], dict[str, Any]]


class ServerGate(Gate):
    """Lets in whom the server would let execute code, and who has ``token``."""

    def __init__(self, serverapp: ServerApp, token: str) -> None:
        super().__init__(token)
        self._serverapp = serverapp

    async def admit(self, handler: RequestHandler, *, open_to_all: bool) -> Caller | None:
        assert isinstance(handler, JupyterHandler), "every route is made by rules()"
        request = handler.request
        if not handler.check_host():
            raise Refused(403, f"the host {request.host!r} is not one of this server's; see allow_remote_access")
        origin = handler.get_origin()
        if origin is not None and not self._is_known(origin, request.headers.get("Host", "")):
            raise Refused(403, f"the origin {origin!r} is not allowed; it must be ServerApp.allow_origin, exactly")
        if open_to_all:
            return None
        given = token_of(request)
        if given is not None and hmac.compare_digest(given.encode(), self._token):
            return self._caller
        await self._ask_server(handler, given, origin)
        return self._caller

    async def _ask_server(self, handler: JupyterHandler, given: str | None, origin: str | None) -> None:
        """Whether the server knows who asks, and lets them execute code.

        Raises:
            Refused: see there.
        """
        request, provider = handler.request, handler.identity_provider
        if "token" in request.arguments:
            raise Refused(401, 'a token in an address gets into logs; send the header "Authorization: Bearer TOKEN"')
        if given is not None:
            # Where a browser has put it, no identity provider looks.
            request.headers["Authorization"] = f"token {given}"
        user: Any = await ensure_async(provider.get_user(handler))
        if user is None:
            raise Refused(401, 'send this server\'s token in the header "Authorization: Bearer TOKEN", or log in')
        handler.current_user = handler._jupyter_current_user = user
        if not provider.is_token_authenticated(handler):
            self._check_cookie_is_meant(handler, origin)
        if not await ensure_async(handler.authorizer.is_authorized(handler, user, "execute", "kernels")):
            raise Refused(403, "this server does not let you execute code")

    def _check_cookie_is_meant(self, handler: JupyterHandler, origin: str | None) -> None:
        """A browser sends its cookie whoever asks it to."""
        upgrade = handler.request.headers.get("Upgrade", "").lower() == "websocket"
        if upgrade and origin is None:
            raise Refused(403, "a WebSocket by cookie needs an Origin; send a token instead")
        if handler.request.method not in SAFE:
            try:
                handler.check_xsrf_cookie()
            except HTTPError as error:
                raise Refused(403, f"{error.log_message}; send the cookie _xsrf as header X-XSRFToken") from None

    def _is_known(self, origin: str, host: str) -> bool:
        allowed = self._serverapp.allow_origin
        split = urlsplit(origin)
        # A proxy that ends TLS does not change the Host, but the scheme.
        return (split.scheme in ("http", "https") and origin == f"{split.scheme}://{host}") or (
            allowed not in ("", "*") and origin == allowed
        )


def rules(routes: Iterable[URLSpec], base_url: str) -> list[Rule]:
    """The routes of a broker for a server's application: below :data:`PREFIX`, and the API beside the server's own."""
    found: list[Rule] = []
    for route in routes:
        handler, path = _in_server(route.handler_class), route.regex.pattern.removeprefix("/")
        for prefix in (PREFIX, ""):
            if prefix or path.startswith(API):
                found.append((re.escape(base_url + prefix) + path, handler, route.kwargs or {}))
    return found


def _in_server(handler: type[RequestHandler]) -> type[RequestHandler]:
    """A handler of ours that has what an identity provider wants of a handler."""
    # Every request is let in by the gate, before its method; the server is to know that nothing was forgotten.
    own: dict[str, Any] = {
        name: allow_unauthenticated(getattr(handler, name))
        for name in map(str.lower, handler.SUPPORTED_METHODS)
        if getattr(handler, name) is not getattr(RequestHandler, name)
    }
    if issubclass(handler, Socket):
        own["max_message_size"] = MAX_TRANSPORT
    return type(f"Server{handler.__name__}", (handler, JupyterHandler), own)
