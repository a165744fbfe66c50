"""The wire API: JSON-RPC 2.0 over a WebSocket and over HTTP."""
