"""A Jupyter Server extension that puts a broker's API under the server's own base URL, with the server's identity.

It leads each connection to a real broker in another process, which ``BROKER_URL`` and ``JUPYTER_BROKER_TOKEN`` name.
"""

from __future__ import annotations

import os
from typing import Any

from jupyter_server.base.handlers import JupyterHandler
from jupyter_server.base.websocket import WebSocketMixin
from jupyter_server.utils import url_path_join
from tornado import web, websocket
from tornado.httpclient import AsyncHTTPClient, HTTPRequest

API = "api/broker/v1"
URL = os.environ.get("BROKER_URL", "") + API
HEADERS = {"Authorization": f"Bearer {os.environ.get('JUPYTER_BROKER_TOKEN')}"}


class Socket(WebSocketMixin, websocket.WebSocketHandler, JupyterHandler):
    auth_resource = "broker"

    async def get(self, *args: Any, **kwargs: Any) -> None:
        if self.current_user is None:
            raise web.HTTPError(403)
        request = HTTPRequest(URL.replace("http", "ws", 1) + "/ws", headers=HEADERS)
        self.there = await websocket.websocket_connect(
            request, subprotocols=["broker.v1"], on_message_callback=self.come, max_message_size=1 << 27
        )
        await super().get(*args, **kwargs)

    def select_subprotocol(self, subprotocols: list[str]) -> str | None:
        return "broker.v1" if "broker.v1" in subprotocols else None

    def come(self, message: str | bytes | None) -> None:
        if message is None:
            self.close()
        elif self.ws_connection is not None:
            self.write_message(message)

    def on_message(self, message: str | bytes) -> None:
        self.there.write_message(message)

    def on_close(self) -> None:
        super().on_close()
        self.there.close()


class Page(JupyterHandler):
    auth_resource = "broker"

    @web.authenticated
    async def get(self, path: str) -> None:
        answer = await AsyncHTTPClient().fetch(f"{URL}/{path}", headers=HEADERS, raise_error=False)
        self.set_status(answer.code)
        self.finish(answer.body)


def _load_jupyter_server_extension(serverapp: Any) -> None:
    base = url_path_join(serverapp.web_app.settings["base_url"], API)
    serverapp.web_app.add_handlers(".*$", [(f"{base}/ws", Socket), (f"{base}/(health|openrpc.json)", Page)])
