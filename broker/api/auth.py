"""Who may come in: checked on every route before anything else happens, the upgrade to a WebSocket included.

The checks are exact. A Host that is not known is refused (so that no foreign name can be rebound to this address), and
so is an Origin that is not known, where a browser sends one.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable
from urllib.parse import urlsplit

from tornado.httputil import HTTPServerRequest
from tornado.web import RequestHandler

from .methods import Caller

SUBPROTOCOL = "broker.v1"
TOKEN_SUBPROTOCOL = "broker.token."
LOOPBACK = ("localhost", "127.0.0.1", "[::1]")


class Refused(Exception):
    """A request that does not come in. ``status`` is HTTP's: 401 or 403."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status, self.message = status, message


class Gate:
    """Checks requests against one token, and against the hosts and origins that are known.

    Origins are those of the hosts, over plain HTTP, and ``allow_origins`` as they stand (scheme, host and port).
    """

    def __init__(
        self, token: str, *, owner: str = "local", hosts: Iterable[str] = LOOPBACK, allow_origins: Iterable[str] = ()
    ) -> None:
        self._token = token.encode()
        self._caller = Caller(owner)
        self._hosts = frozenset(host.lower() for host in hosts)
        self._origins = frozenset(allow_origins)

    async def admit(self, handler: RequestHandler, *, open_to_all: bool) -> Caller | None:
        """Let a request in, and say who calls; None where it is ``open_to_all`` and nobody was asked.

        Raises:
            Refused: with 401 or 403.
        """
        if not open_to_all:
            return self.check(handler.request)
        self.check_host(handler.request)
        return None

    def check_host(self, request: HTTPServerRequest) -> None:
        """Check Host and Origin.

        Raises:
            Refused: with 403.
        """
        host = request.headers.get("Host", "")
        if _name(host) not in self._hosts:
            raise Refused(403, f"the host {host!r} is not one of this broker's; add it with --allow-host")
        origin = request.headers.get("Origin") or request.headers.get("Sec-WebSocket-Origin")
        if origin is not None and origin not in self._origins and origin != f"http://{host}":
            raise Refused(403, f"the origin {origin!r} is not allowed; add it with --allow-origin")

    def check(self, request: HTTPServerRequest) -> Caller:
        """Check everything, and say who calls.

        Raises:
            Refused: with 401 or 403.
        """
        self.check_host(request)
        token = token_of(request)
        if token is None or not hmac.compare_digest(token.encode(), self._token):
            raise Refused(
                401,
                ("no token" if token is None else "the token is wrong")
                + '; send the header "Authorization: Bearer TOKEN" (or, from a browser, the WebSocket subprotocols '
                f'"{SUBPROTOCOL}" and "{TOKEN_SUBPROTOCOL}TOKEN"). `jupyter broker serve` prints where the token is',
            )
        return self._caller


def _name(host: str) -> str:
    try:
        split = urlsplit(f"//{host}")
        name = split.hostname or ""
    except ValueError:
        return ""
    return f"[{name}]" if ":" in name else name


def token_of(request: HTTPServerRequest) -> str | None:
    """The token that a request bears, in its header or as a subprotocol. One in its address is none."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() in ("bearer", "token"):
        return token.strip()
    for protocol in request.headers.get("Sec-WebSocket-Protocol", "").split(","):
        if protocol.strip().startswith(TOKEN_SUBPROTOCOL):
            return protocol.strip().removeprefix(TOKEN_SUBPROTOCOL)
    return None
