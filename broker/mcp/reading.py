"""What takes several calls to read: whole logs, their ends, and images too large for a reply."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime

from mcp_types import CallToolResult
from msgspec import UNSET, UnsetType

from ..client import Client, Event, Execution
from . import tools

PAGE = 1000
FEW = 100


async def complete_result(
    client: Client, execution: Execution, *, budget: int = tools.BUDGET, after: int = 0, next_step: str = ""
) -> CallToolResult:
    """An execution as a result, with its images, the large ones too."""
    images = []
    for picture in tools.pictures(execution.outputs):
        found: tools.Picture | None = picture
        if picture.data is None:
            page = await client.get_async_log(execution.execution_id, after=picture.seq - 1, limit=1)
            found = tools.picture_in(page.events[0], picture.mime) if page.events else None
        if found is not None:
            images.append(found)
    return tools.result(execution, after=after, images=images, budget=budget, next=next_step)


async def page(client: Client, execution_id: str, after: int, budget: int) -> tuple[str, int, bool]:
    """What it printed after a seq, in order, as much as fits; the seq to go on after; whether that was all."""
    shown: list[str] = []
    while True:
        log = await client.get_async_log(execution_id, after=after, limit=FEW)
        for event in log.events:
            text = tools.printed(event)
            if not tools.fits(text, budget):
                if shown:
                    return "".join(shown), after, False
                text, _ = tools.cut(
                    text, budget, f"get_async_log(after={event.seq - 1}, limit=1) of the broker has all"
                )
                return text, event.seq, log.eof and event is log.events[-1]
            budget -= tools.cost(text)
            shown.append(text)
            after = event.seq
        after = log.seq
        if log.eof:
            return "".join(shown), after, True


async def timed_ends(client: Client, execution_id: str, since: str | UnsetType, budget: int) -> str:
    """What it printed since a time, with the time of each line, and the middle left out where it is long."""
    # A time takes about as much room as a line.
    most = tools.characters(budget) // 2
    progress = await client.get_progress(execution_id, since=since, max_output=max(most, 200))
    moment = None if since is UNSET else _moment(since)
    gone = progress.truncated
    head = [event async for event in events(client, execution_id, until=gone.from_seq if gone else None, since=moment)]
    text = "".join(tools.timed(head))
    if gone is not None:
        tail = [event async for event in events(client, execution_id, after=max(gone.to_seq - 1, gone.from_seq))]
        text = f"{text.rstrip()}\n… {gone.omitted_characters:,} characters left out …\n{''.join(tools.timed(tail))}"
    return tools.cut(text.rstrip("\n"), budget, "get_progress with since has later ones")[0]


async def events(
    client: Client, execution_id: str, *, after: int = 0, until: int | None = None, since: datetime | None = None
) -> AsyncIterator[Event]:
    """The events after a seq, and up to one, that are not older than a time."""
    while True:
        log = await client.get_async_log(execution_id, after=after, limit=PAGE)
        for event in log.events:
            if until is not None and event.seq > until:
                return
            if since is None or _moment(event.time) > since:
                yield event
        after = log.seq
        if log.eof:
            return


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
