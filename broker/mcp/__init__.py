"""The broker for agents that speak the Model Context Protocol: ``jupyter broker mcp``, and ``/mcp`` of a broker.

:mod:`~.catalogue` says what tools there are, :mod:`~.tools` how an execution looks to a model, :mod:`~.server` joins
them to a broker, of which it is a client like any other. :mod:`~.old` is the older form of ``execute``.
"""
