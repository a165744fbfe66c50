"""A JavaScript kernel that loses nothing: Node.js runs the code, and ipykernel's base class speaks the protocol.

Start reading at :mod:`javascript_kernel.app`, and on the other side at ``engine/main.mjs``.
"""
