"""The tools: what a model reads of them, and the types that check what it sends."""

from __future__ import annotations

from typing import Annotated, Any, Literal, NamedTuple

import msgspec
from msgspec import UNSET, Meta, UnsetType

from .tools import BUDGET

Id = Annotated[str, Meta(min_length=1, description="execution_id of a result.")]
Seconds = Annotated[float, Meta(ge=0, le=1e9, description="Seconds after which you get control back; 30 by default.")]
After = Annotated[int, Meta(ge=0, description="Leave out what came up to this seq, as an earlier result named it.")]
MaxTokens = Annotated[int, Meta(ge=1000, le=200_000, description="The longest result.")]


class Arguments(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Arguments of a tool, by name."""


class Execute(Arguments):
    code: Annotated[str, Meta(description="What to run.")] | UnsetType = UNSET
    session: (
        Annotated[
            str,
            Meta(
                min_length=1,
                max_length=200,
                description="The session whose variables it shares, made if there is none of that name. "
                "By default the one of the working directory.",
            ),
        ]
        | UnsetType
    ) = UNSET
    working_directory: Annotated[str, Meta(description="Where a new session runs.")] | UnsetType = UNSET
    kernel: Annotated[str, Meta(description="The kernelspec of a new session.")] | UnsetType = UNSET
    wait: Seconds | UnsetType = UNSET
    stdin: Annotated[list[str], Meta(description="Answers to input(), given ahead, in order.")] | UnsetType = UNSET
    on_busy: (
        Annotated[
            Literal["auto", "queue", "concurrent", "reject"],
            Meta(description="When it begins if others run in the session. auto: beside those that were handed over."),
        ]
        | UnsetType
    ) = UNSET
    max_tokens: MaxTokens = BUDGET
    # The older form. Its names are part of prompts that were written for it.
    workingDirectory: Annotated[str, Meta(description="Older form of working_directory.")] | UnsetType = UNSET
    action: (
        Annotated[
            Literal["kill", "get_async_log", "list_async_executions", "clear_history", "get_progress", "send_stdin"],
            Meta(description="Older form: what to do with executionId. Without effect beside code."),
        ]
        | UnsetType
    ) = UNSET
    executionId: Annotated[str, Meta(description='Older form, such as "0". kill without it: all.')] | UnsetType = UNSET
    stdinData: Annotated[str, Meta(description="Older form: what send_stdin sends.")] | UnsetType = UNSET
    clearHistory: Annotated[bool, Meta(description="Older form: of clear_history.")] | UnsetType = UNSET
    since: Annotated[str, Meta(description="Older form: ISO 8601 time, for get_progress.")] | UnsetType = UNSET

    @property
    def is_old(self) -> bool:
        """Whether it is the older form."""
        return any(getattr(self, name) is not UNSET for name in _OLD)


_OLD = ("workingDirectory", "action", "executionId", "stdinData", "clearHistory", "since")


class Wait(Arguments):
    execution_id: Id
    wait: Seconds | UnsetType = UNSET
    until: Annotated[Literal["done", "output"], Meta(description="Return at its end, or at its next output.")] = "done"
    after: After = 0
    max_tokens: MaxTokens = BUDGET


class Read(Arguments):
    execution_id: Id
    after: After = 0
    since: Annotated[str, Meta(description="Instead of after: an ISO 8601 time.")] | UnsetType = UNSET
    whole: Annotated[
        bool, Meta(description="All of it in order, a page a call: go on with after=seq until eof. Else: its ends.")
    ] = False
    max_tokens: MaxTokens = BUDGET


class Input(Arguments):
    execution_id: Id
    text: Annotated[str, Meta(description='A line; "" is the Enter key.')] | UnsetType = UNSET
    eof: Annotated[bool, Meta(description="End its input.")] = False
    wait: Seconds | UnsetType = UNSET
    after: After = 0
    max_tokens: MaxTokens = BUDGET


class Stop(Arguments):
    execution_id: Id
    kill: Annotated[
        bool,
        Meta(description="If an interrupt does not end it, kill its kernel: all variables and all else there is lost."),
    ] = False
    max_tokens: MaxTokens = BUDGET


class List(Arguments):
    all: Annotated[bool, Meta(description="Also the last 20 that are over.")] = False


class Offered(NamedTuple):
    """A tool as it is offered. ``reads``: it changes nothing. ``destroys``: it can take something away."""

    name: str
    arguments: type[Arguments]
    description: str
    reads: bool = False
    destroys: bool = False


OFFERED = (
    Offered(
        "execute",
        Execute,
        "Run code in a session's kernel; variables stay for the next call. Returns when it is done, when it asks for "
        "input, or after `wait` seconds: then it runs on, nothing is stopped or lost, and `next` says what to call. "
        "Never run the same code again because it was handed over. Call `wait` for its end, `input` to answer a "
        "prompt, `stop` to stop it; or go on working: the next execute runs beside it, with the same variables.",
        destroys=True,
    ),
    Offered(
        "wait",
        Wait,
        "Wait for an execution to be done, or to ask for input. Pass `after`=seq of the last result to get only what "
        "is new. If it still runs, call wait again, for as long as you like.",
        reads=True,
    ),
    Offered(
        "read",
        Read,
        "Read what an execution printed, now, without waiting; also after it is over. Long output has its middle left "
        "out; `whole` pages through all of it.",
        reads=True,
    ),
    Offered(
        "input",
        Input,
        "Answer an execution that asks for input (state awaiting_input), then wait as `wait` does. Do not answer a "
        "password prompt: ask the user to do it.",
    ),
    Offered(
        "stop",
        Stop,
        "Interrupt an execution. Its variables and the other executions stay. If it runs on, call stop with kill=true.",
        destroys=True,
    ),
    Offered("list", List, "List executions that are not over, in every session, with their ids.", reads=True),
)
BY_NAME = {offered.name: offered for offered in OFFERED}

INSTRUCTIONS = (
    "Runs code in kernels that outlive this connection. No execution times out: after 30 seconds you get control back "
    "and it runs on. Results name an execution_id and a seq; `next` says what to call. Never run code again to see its "
    "output: call wait or read."
)


def schema(arguments: type[Arguments]) -> dict[str, Any]:
    """The JSON schema of a tool's arguments."""
    _, components = msgspec.json.schema_components([arguments], ref_template="#/$defs/{name}")
    shape: dict[str, Any] = components.pop(arguments.__name__)
    shape.pop("title", None)
    return shape | ({"$defs": components} if components else {})
