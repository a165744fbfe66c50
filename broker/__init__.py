"""Runs code on Jupyter kernels for agents, over a WebSocket, and never loses a line of it.

:mod:`broker.client` talks to a running broker; ``jupyter broker serve`` is one. Start reading at
:mod:`broker.core.state` (the three small machines), then :mod:`broker.core.session` (what decides),
:mod:`broker.journal` (what is kept) and :mod:`broker.runner` (what ties them together).
"""

__version__ = "0.1.0"
