"""An adapter for each peer, in the order of the table's columns."""

from __future__ import annotations

from ..peer import Peer
from .broker import Broker
from .codemode import CodemodeAgent
from .jupyter_server import JupyterServer
from .mcp_server import JupyterMCPServer
from .nbclient import NBClient
from .nbmodel import ServerNBModel

PEERS: dict[str, type[Peer]] = {
    peer.name: peer for peer in (Broker, CodemodeAgent, JupyterMCPServer, ServerNBModel, JupyterServer, NBClient)
}
