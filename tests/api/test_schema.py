"""The schema: it is what the broker does, and what the documentation has."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from broker.api.methods import METHODS

from ..running import BrokerProcess, Wire

DOCUMENTED = Path(__file__).parents[2] / "docs" / "openrpc.json"


@pytest.fixture(scope="module")
def schema(broker: BrokerProcess) -> dict[str, Any]:
    status, _, body = broker.request("api/broker/v1/openrpc.json")
    assert status == 200
    served: dict[str, Any] = json.loads(body)
    return served


def test_the_documentation_has_the_schema_that_is_served(schema: dict[str, Any]) -> None:
    made = subprocess.run([sys.executable, "-m", "broker.api.schema"], capture_output=True, check=True).stdout
    assert DOCUMENTED.read_bytes() == made, "run: python -m broker.api.schema > docs/openrpc.json"
    assert json.loads(made) == schema


async def test_it_can_be_discovered_over_the_wire(wire: Wire, schema: dict[str, Any]) -> None:
    assert await wire.call("rpc.discover") == schema


def test_it_has_every_method_and_every_reference_leads_somewhere(schema: dict[str, Any]) -> None:
    assert [method["name"] for method in schema["methods"]] == list(METHODS)
    names = set(schema["components"]["schemas"])
    text = json.dumps(schema)
    referred = {part.split('"')[0] for part in text.split("#/components/schemas/")[1:]}
    assert referred <= names


def validate(schema: dict[str, Any], name: str, value: Any) -> None:
    jsonschema.validate(value, {"$ref": f"#/components/schemas/{name}", "components": schema["components"]})


async def test_what_is_answered_and_notified_is_as_the_schema_says(
    wire: Wire, session: str, schema: dict[str, Any]
) -> None:
    results = {method["name"]: method["result"]["schema"] for method in schema["methods"]}
    subscribed = await wire.call("subscribe", session=session)
    execution = await wire.execute("print(1)\ninput('?')", session=session, stdin=["x"])
    id = execution["execution_id"]
    answers = {
        "subscribe": subscribed,
        "execute": execution,
        "get_execution": await wire.call("get_execution", execution_id=id),
        "wait": await wire.call("wait", execution_id=id),
        "list_executions": await wire.call("list_executions", session=session),
        "list_async_executions": await wire.call("list_async_executions"),
        "get_async_log": await wire.call("get_async_log", execution_id=id),
        "get_progress": await wire.call("get_progress", execution_id=id),
        "get_session": await wire.call("get_session", session=session),
        "list_sessions": await wire.call("list_sessions"),
        "list_kernelspecs": await wire.call("list_kernelspecs"),
        "interrupt": await wire.call("interrupt", execution_id=id),
        "kill": await wire.call("kill", execution_id=id),
        "clear_history": await wire.call("clear_history", execution_id=id),
    }
    for method, answer in answers.items():
        jsonschema.validate(answer, {**results[method], "components": schema["components"]})
    await wire.event(lambda event: event["type"] == "history_cleared")
    for notification in wire.notifications:
        if notification["method"] == "event":
            validate(schema, "EventNotification", notification["params"])
