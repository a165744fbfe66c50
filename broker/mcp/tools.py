"""How executions look to a model: text, the same facts as structure, images; and how much of it fits.

Nothing here talks to anybody.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
import struct
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from mcp_types import CallToolResult, ContentBlock, ImageContent, TextContent

from ..client import Event, Execution, ExecutionSummary, Progress, Truncated

BUDGET = 10_000
"""Tokens of a result, unless its caller wants more: text and structure together, for clients show one or both."""
FACTS = 600
"""Tokens kept for all that is not output."""
IMAGE_TOKENS = 1600
"""What an image costs at most; a model sees larger ones scaled down."""
PIXELS_A_TOKEN = 750
LARGEST_IMAGE = 5 * 2**20
"""Characters of base64 above which clients refuse an image."""
IMAGES = ("image/png", "image/jpeg", "image/webp", "image/gif")
LOOKS_SECRET = re.compile(r"pass(word|phrase|code)|secret|token|api.?key|credential|\bpin\b|\botp\b|private key", re.I)

_PIECES = re.compile(r" ?([A-Z]?[a-z]+|[A-Z]+)|(\d+)|(\s+)|([^\w\s])\4*|(.)", re.S)
_ANSI = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]")


def tokens(text: str) -> int:
    """About how many tokens a text has for a language model, rather more than less.

    It splits as tokenizers do: a word with the space before it, digits by twos, signs one by one.
    """
    count = 0
    for piece in _PIECES.finditer(text):
        word, digits, space, sign, other = piece.groups()
        if word:
            count += 1 + len(word) // 7
        elif digits:
            count += (len(digits) + 1) // 2
        elif space:
            count += 1 + (len(space) - 1) // 8
        elif sign:
            count += 1 + (len(piece[0]) - 1) // 4
        else:
            count += (len(other.encode(errors="replace")) + 1) // 2
    return count


def characters(budget: int) -> int:
    """How many characters are worth asking for, to fill a budget."""
    return max(200, budget * 2)


def cost(text: str) -> int:
    """What a text takes of a budget: it is shown twice, as it is and in JSON."""
    return tokens(text) + tokens(json.dumps(text, ensure_ascii=False))


def fits(text: str, budget: int) -> bool:
    """Whether it does. A text that is far too long is not counted."""
    return len(text) <= 4 * budget and cost(text) <= budget


def cut(text: str, budget: int, where: str) -> tuple[str, int]:
    """The text with its middle left out until it fits, and how much that was. ``where`` says what has all of it."""
    if fits(text, budget):
        return text, 0
    keep = min(len(text), 4 * budget)
    while True:
        head, tail = text[: keep // 2], text[len(text) - keep // 2 :]
        omitted = len(text) - len(head) - len(tail)
        shown = f"{head}\n… {omitted:,} characters left out; {where} …\n{tail}"
        if keep < 2 or (taken := cost(shown)) <= budget:
            return shown, omitted
        keep = int(keep * min(0.95, budget / taken))


class Picture(NamedTuple):
    """An image that was shown. Data is in base64; None where it is not at hand, but in the event at ``seq``."""

    mime: str
    data: str | None
    seq: int = 0

    @property
    def tokens(self) -> int:
        return min(IMAGE_TOKENS, (_pixels(self) or PIXELS_A_TOKEN * IMAGE_TOKENS) // PIXELS_A_TOKEN + 1)


def pictures(outputs: Iterable[dict[str, Any]]) -> list[Picture]:
    """The images among outputs, in order, one of each: the same figure often comes in several formats."""
    found = []
    for output in outputs:
        data: dict[str, Any] = output.get("data", {})
        references: dict[str, Any] = output.get("metadata", {}).get("broker", {}).get("references", {})
        for mime in IMAGES:
            if mime in data:
                found.append(Picture(mime, _joined(data[mime])))
                break
            if mime in references:
                found.append(Picture(mime, None, references[mime]["seq"]))
                break
    return found


def picture_in(event: Event, mime: str) -> Picture | None:
    """The image in an output event."""
    value = event.data.get("content", {}).get("data", {}).get(mime)
    return Picture(mime, _joined(value)) if value else None


def result(
    execution: Execution, *, after: int = 0, images: Sequence[Picture] = (), budget: int = BUDGET, next: str = ""
) -> CallToolResult:
    """An execution, as the result of the tool that was called for it. ``next`` replaces what to call next."""
    chosen = _affordable(images, (budget - FACTS) // 2)
    left = budget - FACTS - sum(image.tokens for image in chosen)
    text, omitted = _fitted(execution.text, execution.truncated, execution.execution_id, after, left)
    next = next or next_step(execution)
    facts = {
        **_facts(execution),
        "session_id": execution.session_id,
        "execution_count": execution.execution_count,
        "queue": {"position": execution.queue.position, "behind": execution.queue.behind} if execution.queue else None,
        "kernel_state": execution.kernel_state,
        "error": {"ename": execution.error.ename, "evalue": execution.error.evalue[:300]} if execution.error else None,
        "seq": execution.seq,
        "text": text,
        "omitted_characters": omitted or None,
        "next": next or None,
    }
    content: list[ContentBlock] = [
        TextContent(type="text", text=_page(text, execution, next, len(images) - len(chosen)))
    ]
    content += [ImageContent(type="image", data=image.data or "", mime_type=image.mime) for image in chosen]
    return CallToolResult(content=content, structured_content=_known(facts))


def progress_result(progress: Progress, *, after: int, budget: int) -> CallToolResult:
    """What an execution printed after a place, with its middle left out."""
    text, omitted = _fitted(progress.text, progress.truncated, progress.execution_id, after, budget - FACTS)
    facts = {
        "execution_id": progress.execution_id,
        "state": progress.state,
        "duration": progress.duration,
        "lines": progress.lines,
        "seq": progress.seq,
        "text": text,
        "omitted_characters": omitted or None,
        "input_request": _asked(progress),
    }
    return _result(f"{text or '(nothing)'}\n[{progress.state}; seq {progress.seq}]", _known(facts))


def page_result(execution_id: str, text: str, seq: int, *, eof: bool, state: str) -> CallToolResult:
    """A page of an execution's whole output."""
    more = "" if eof else f"; go on with read(execution_id={execution_id!r}, after={seq}, whole=true)"
    facts = {"execution_id": execution_id, "state": state, "seq": seq, "eof": eof, "text": text}
    return _result(f"{text or '(nothing)'}\n[{state}; seq {seq}; eof {str(eof).lower()}{more}]", facts)


def list_result(summaries: Sequence[ExecutionSummary], names: dict[str, str]) -> CallToolResult:
    """Executions, a line each. ``names`` are those of sessions."""
    lines = []
    for each in summaries:
        asks = f", asks {each.input_request.prompt!r}" if each.input_request else ""
        session = names.get(each.session_id, each.session_id)
        lines.append(
            f"{each.execution_id}  {each.state}, {each.duration or 0:.0f} s{asks}, in {session}: {each.title[:80]}"
        )
    structure = [
        _known(_facts(each) | {"session": names.get(each.session_id), "title": each.title[:80]}) for each in summaries
    ]
    return _result("\n".join(lines) or "Nothing runs.", {"executions": structure})


def failure(message: str) -> CallToolResult:
    """That the call itself could not be carried out."""
    return CallToolResult(content=[TextContent(type="text", text=message)], is_error=True)


def next_step(execution: Execution) -> str:
    """What holds, and what to call next: in the names of the tools."""
    id = execution.execution_id
    match execution.state:
        case "running":
            return (
                f"It runs on; nothing was stopped or lost. Do not run the code again. Call wait(execution_id={id!r}, "
                f"after={execution.seq}) for its end, or stop(execution_id={id!r}) to stop it."
            )
        case "awaiting_input" if execution.input_request and is_secret(execution):
            return (
                f"It asks for what looks like a secret ({execution.input_request.prompt!r}). Do not answer, and do not "
                f"run the code again: ask the user to run `jupyter broker attach {id}` in a terminal and answer there. "
                f"Then call wait(execution_id={id!r}, after={execution.seq})."
            )
        case "awaiting_input":
            asked = execution.input_request.prompt if execution.input_request else ""
            return (
                f"It asks for input ({asked!r}) and waits. Do not run the code again. "
                f"Call input(execution_id={id!r}, text=..., after={execution.seq})."
            )
        case "queued":
            behind = f"behind execution {execution.queue.behind}" if execution.queue and execution.queue.behind else ""
            return (
                f"It is queued {behind or 'until its kernel is ready'} and will run by itself. Do not send it again; "
                f"call wait(execution_id={id!r})."
            )
    return execution.hint or ""


def is_secret(execution: ExecutionSummary) -> bool:
    """Whether its prompt must be answered by a person, out of a model's sight."""
    asked = execution.input_request
    return asked is not None and (asked.password or LOOKS_SECRET.search(asked.prompt) is not None)


def timed(events: Iterable[Event]) -> Iterator[str]:
    """What events printed, each line with its time before it."""
    at_start = True
    for event in events:
        if text := printed(event):
            time = f"[{_milliseconds(event.time)}] "
            yield (time if at_start else "") + text[:-1].replace("\n", f"\n{time}") + text[-1]
            at_start = text.endswith("\n")


def printed(event: Event) -> str:
    """The text of an event, without colours; "" if it has none."""
    content: dict[str, Any] = event.data.get("content", {})
    if event.type == "input_request":
        return str(event.data.get("prompt", ""))
    if event.type == "input_reply":
        return f"{event.data.get('value', '')}\n"
    if event.type == "gap":
        return f"(something may be missing here: {event.data.get('reason', '')})\n"
    if event.type != "output":
        return ""
    match event.data.get("msg_type"):
        case "stream":
            return _ANSI.sub("", content.get("text", ""))
        case "error":
            return _ANSI.sub("", "\n".join(content.get("traceback", ()))) + "\n"
        case "execute_result" | "display_data" | "update_display_data":
            data: dict[str, Any] = content.get("data", {})
            named = next((mime for mime in data if mime.startswith("image/")), None)
            return _joined(data.get("text/plain") or f"({named or 'no text'})") + "\n"
    return ""


def _fitted(text: str, truncated: Truncated | None, id: str, after: int, budget: int) -> tuple[str, int]:
    omitted = 0
    if truncated is not None:
        places = f"seq {truncated.from_seq} to {truncated.to_seq}; "
        text = text.replace(
            f"({places}get_async_log has them)",
            f"({places}read(execution_id={id!r}, after={truncated.from_seq - 1}, whole=true) has them)",
        )
        omitted = truncated.omitted_characters
    text, more = cut(text, budget, f"read(execution_id={id!r}, after={after}, whole=true) has all")
    return text, omitted + more


def _page(text: str, execution: Execution, next: str, left_out: int) -> str:
    page = text
    if left_out:
        page += f"\n[{left_out} images left out; max_tokens makes room for more]"
    if execution.state == "completed" and not next:
        return page or "(completed; it printed nothing)"
    took = "" if execution.duration is None else f" after {execution.duration:.1f} s"
    state = f"{execution.state}{took}; execution {execution.execution_id}; seq {execution.seq}"
    return f"{page}{'' if page.endswith(chr(10)) or not page else chr(10)}[{state}]" + (f"\n{next}" if next else "")


def _facts(summary: ExecutionSummary) -> dict[str, Any]:
    return {
        "execution_id": summary.execution_id,
        "state": summary.state,
        "detached": summary.detached,
        "duration": summary.duration,
        "lines": summary.lines,
        "bytes": summary.bytes,
        "input_request": _asked(summary),
    }


def _asked(about: ExecutionSummary | Progress) -> dict[str, Any] | None:
    asked = about.input_request
    return {"prompt": asked.prompt[:1000], "password": asked.password} if asked else None


def _known(facts: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in facts.items() if value is not None}


def _result(text: str, structure: dict[str, Any]) -> CallToolResult:
    return CallToolResult(content=[TextContent(type="text", text=text)], structured_content=structure)


def _affordable(images: Sequence[Picture], budget: int) -> list[Picture]:
    """The last ones, for as long as they fit."""
    chosen: list[Picture] = []
    for image in reversed(images):
        budget -= image.tokens
        if budget < 0:
            break
        if image.data is not None and len(image.data) <= LARGEST_IMAGE:
            chosen.append(image)
    return chosen[::-1]


def _pixels(image: Picture) -> int | None:
    """Width times height of a PNG: its header comes first (PNG specification, section 11.2.2)."""
    if image.mime != "image/png" or image.data is None:
        return None
    try:
        width, height = struct.unpack(">II", base64.b64decode(image.data[:32])[16:24])
    except (binascii.Error, struct.error):
        return None
    return int(width * height)


def _joined(value: Any) -> str:
    return "".join(value) if isinstance(value, list) else str(value)


def _milliseconds(time: str) -> str:
    """A time of the journal to the millisecond, in UTC."""
    return re.sub(r"(\.\d{3})\d*(Z|\+00:00)$", r"\1Z", time)
