"""Servers that make their answers up: aimock of npm, and llmock, fakellm, mockllm and llm-mock-api of PyPI."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from typing import Any

from tests.system.servers.gateways import node, node_version
from tests.system.servers.programs import free_port, program, version_of
from tests.system.servers.served import COLOURS, SCRIPT, WEATHER, Place, Served

MODEL = "gpt-4o-mini"
SECONDS = 60
CITY = {"city": "Rome"}
KEY = "sk-test-1234567890"


@contextlib.contextmanager
def aimock(place: Place) -> Iterator[Served]:
    package = place.node / "node_modules" / "@copilotkit" / "aimock"
    version = node_version(package)
    said: list[dict[str, Any]] = [
        {"match": {"hasToolResult": True}, "response": {"content": "It is sunny in Rome."}},
        {"match": {"toolName": "left"}, "response": {"toolCalls": [{"name": "left", "arguments": {}}]}},
        {"match": {"userMessage": WEATHER}, "response": {"toolCalls": [{"name": "weather", "arguments": CITY}]}},
        *({"match": {"userMessage": asked}, "response": {"content": answer}} for asked, answer in SCRIPT.items()),
        {"match": {"model": MODEL}, "response": {"content": COLOURS}},
    ]
    fixtures = place.logs / "fixtures.json"
    fixtures.write_text(json.dumps({"fixtures": said}))
    port = free_port()
    options = ["--host", "127.0.0.1", "--port", str(port), "--fixtures", fixtures, "--log-level", "warn"]
    url = f"http://127.0.0.1:{port}/v1"
    command = [node(), package / "dist" / "cli.js", *options]
    with program(
        command, f"{url}/models", log=place.logs / "server.log", seconds=SECONDS, env={"AIMOCK_API_KEYS": KEY}
    ):
        served = Served(url, MODEL, version, key=KEY)

        def limit(rate: float = 1.0) -> dict[str, Any]:
            served.root("/__aimock/chaos", {"rateLimitRate": rate})
            return {}

        served.limit, served.unlimit = limit, lambda: limit(0.0)
        yield served


@contextlib.contextmanager
def llmock(place: Place) -> Iterator[Served]:
    """It judges its clients too."""
    with _python(place, "llmock", ["serve", "--host", "127.0.0.1", "--port"], "/v1/models") as served:

        def limit() -> dict[str, Any]:
            behaviour = {"type": "fail", "status": 429, "retry_after": 1, "times": 2}
            served.root("/_llmock/scenario", {"behaviors": [behaviour]})
            return {}

        served.limit, served.unlimit = limit, lambda: served.root("/_llmock/reset", {})
        served.verdict = lambda: _findings(served.root("/_llmock/verdict").json)
        yield served


def _findings(verdict: dict[str, Any]) -> list[Any]:
    return list(verdict["findings"]) if verdict["errors"] else []


@contextlib.contextmanager
def fakellm(place: Place) -> Iterator[Served]:
    rules = [
        {"name": "sunny", "when": {"tool_result_contains": "sunny"}, "respond": {"content": "It is sunny in Rome."}},
        {
            "name": "left",
            "when": {"tools_include": "left"},
            "respond": {"tool_calls": [{"name": "left", "arguments": {}}]},
        },
        {
            "name": "weather",
            "when": {"messages_contain": WEATHER},
            "respond": {"tool_calls": [{"name": "weather", "arguments": CITY}]},
        },
        *(
            {"name": f"said-{number}", "when": {"messages_contain": asked}, "respond": {"content": answer}}
            for number, (asked, answer) in enumerate(SCRIPT.items())
        ),
    ]
    config = place.logs / "fakellm.yaml"
    config.write_text(json.dumps({"version": 1, "defaults": {"fallback": "deterministic_echo"}, "rules": rules}))
    with _python(place, "fakellm", ["serve", "--config", str(config), "--host", "127.0.0.1", "--port"]) as served:
        yield served


@contextlib.contextmanager
def mockllm(place: Place) -> Iterator[Served]:
    config = place.logs / "responses.yml"
    config.write_text(json.dumps({"responses": SCRIPT, "defaults": {"unknown_response": COLOURS}}))
    with _python(place, "mockllm", ["start", "--responses", str(config), "--host", "127.0.0.1", "--port"]) as served:
        yield served


@contextlib.contextmanager
def llm_mock_api(place: Place) -> Iterator[Served]:
    rules: list[dict[str, Any]] = [
        {"when": {"tool_name": "left"}, "reply": {"tools": [{"name": "left", "args": {}}]}},
        {"when": WEATHER, "reply": {"tools": [{"name": "weather", "args": CITY}]}},
        *({"when": asked, "reply": answer} for asked, answer in SCRIPT.items()),
    ]
    config = place.logs / "rules.json5"
    config.write_text(json.dumps({"rules": rules, "fallback": COLOURS}))
    options = ["start", "--rules", str(config), "--host", "127.0.0.1", "--port"]
    with _python(place, "llm-mock-api", options) as served:
        yield served


@contextlib.contextmanager
def _python(place: Place, package: str, options: list[str], page: str = "/") -> Iterator[Served]:
    """A program of the PyPI package's own name, which takes its port last."""
    version = version_of(place.light / "bin" / "python", package)
    port = free_port()
    command = [place.light / "bin" / package, *options, str(port)]
    root = f"http://127.0.0.1:{port}"
    with program(command, root + page, log=place.logs / "server.log", seconds=SECONDS):
        yield Served(f"{root}/v1", MODEL, version)
