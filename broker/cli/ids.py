"""Short ids: any beginning that only one execution has."""

from __future__ import annotations

from ..client import Client
from .command import NotFound, UsageError

FULL_LENGTH = 16
SHOWN = 8
"""How many of the matches an ambiguous beginning is shown."""


async def resolve_execution(client: Client, beginning: str) -> str:
    """The id of the execution that is meant.

    Raises:
        NotFound: none begins so, or several do; the message names them.
    """
    if len(beginning) >= FULL_LENGTH:
        return beginning
    if not beginning:
        raise UsageError("an id cannot be empty")
    matches = [e for e in await client.list_executions() if e.execution_id.startswith(beginning)]
    if not matches:
        raise NotFound(f"no execution's id begins with {beginning!r}; `jupyter broker ps --all` lists them")
    if len(matches) > 1:
        shown = ", ".join(f"{e.execution_id} ({e.label or e.state})" for e in matches[-SHOWN:])
        more = f" and {len(matches) - SHOWN} older ones" if len(matches) > SHOWN else ""
        raise NotFound(f"{beginning!r} is ambiguous: {shown}{more}")
    return matches[0].execution_id
