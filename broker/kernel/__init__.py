"""Kernels: the only part of the broker that knows of jupyter_client and ZeroMQ."""
