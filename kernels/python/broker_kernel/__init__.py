"""An IPython kernel that loses nothing: ipykernel, extended by subclassing.

Start reading at :mod:`broker_kernel.app`. What leaves the kernel goes through :mod:`broker_kernel.wire` into the
outbox (:mod:`broker_kernel.outbox`), and to whoever listens on its sockets besides.
"""
