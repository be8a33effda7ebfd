"""Servers that pass a request on to the embedded llama.cpp: LiteLLM's proxy and Portkey's gateway."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tests.system.servers.engines import KEY, MODEL, llama
from tests.system.servers.programs import Missing, free_port, program, version_of
from tests.system.servers.served import COLOURS, Place, Served

SECONDS = 120
LITELLM_ENV = {
    "DISABLE_ADMIN_UI": "True",
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "LITELLM_TELEMETRY": "False",
    "NO_DOCS": "True",
}


@contextlib.contextmanager
def litellm(place: Place) -> Iterator[Served]:
    """Each request goes on to llama.cpp."""
    with llama(place, "upstream.log") as upstream:
        behind = {"model": f"openai/{upstream.model}", "api_base": upstream.url, "api_key": "none"}
        with _litellm(place, [{"model_name": MODEL, "litellm_params": behind}]) as served:
            yield served


@contextlib.contextmanager
def litellm_mock(place: Place) -> Iterator[Served]:
    """It answers by itself, and one of its models only twice a minute."""
    made_up = {"model": "openai/made-up", "api_key": "none", "mock_response": COLOURS}
    models = [
        {"model_name": MODEL, "litellm_params": made_up},
        {"model_name": "limited", "litellm_params": {**made_up, "rpm": 2}},
    ]
    with _litellm(place, models) as served:
        served.limit = lambda: {"model": "limited"}
        yield served


@contextlib.contextmanager
def litellm_batches(place: Place, url: str) -> Iterator[Served]:
    """Files and batches go on to the server at ``url``."""
    behind = {"model": f"openai/{MODEL}", "api_base": url, "api_key": KEY}
    files = {"custom_llm_provider": "openai", "api_base": url, "api_key": KEY}
    models = [{"model_name": MODEL, "litellm_params": behind}]
    # Started and looked up is where the environment says, and not where the model is.
    env = {"OPENAI_API_BASE": url, "OPENAI_API_KEY": KEY}
    with _litellm(place, models, env, files_settings=[files]) as served:
        yield served


@contextlib.contextmanager
def _litellm(
    place: Place, models: list[dict[str, Any]], env: Mapping[str, str] | None = None, **more: Any
) -> Iterator[Served]:
    version = version_of(place.light / "bin" / "python", "litellm")
    config = place.logs / "litellm.json"  # which YAML takes
    settings = {
        "model_list": models,
        "general_settings": {"master_key": KEY},
        "litellm_settings": {"num_retries": 0, "telemetry": False},
        "router_settings": {"num_retries": 0, "optional_pre_call_checks": ["enforce_model_rate_limits"]},
        **more,
    }
    config.write_text(json.dumps(settings))
    port = free_port()
    options = ["--config", config, "--host", "127.0.0.1", "--port", str(port), "--telemetry", "False"]
    url = f"http://127.0.0.1:{port}/v1"
    ready = f"http://127.0.0.1:{port}/health/liveliness"
    command = [place.light / "bin" / "litellm", *options]
    with program(command, ready, log=place.logs / "server.log", seconds=SECONDS, env=LITELLM_ENV | dict(env or {})):
        yield Served(url, MODEL, version, key=KEY)


@contextlib.contextmanager
def portkey(place: Place) -> Iterator[Served]:
    """Where a request goes is in its headers, which the Airflow connection has."""
    package = place.node / "node_modules" / "@portkey-ai" / "gateway"
    version = node_version(package)
    port = free_port()
    command = [node(), package / "build" / "start-server.js", f"--port={port}", "--headless"]
    env = {"NODE_ENV": "production"}
    url = f"http://127.0.0.1:{port}/v1"
    with (
        llama(place, "upstream.log") as upstream,
        program(command, f"http://127.0.0.1:{port}/", log=place.logs / "server.log", seconds=SECONDS, env=env),
    ):
        headers = {"x-portkey-provider": "openai", "x-portkey-custom-host": upstream.url}
        yield Served(url, upstream.model, version, headers=headers)


def node() -> Path:
    found = shutil.which("node")
    if not found:
        raise Missing("Node.js is not installed")
    return Path(found)


def node_version(package: Path) -> str:
    try:
        return str(json.loads((package / "package.json").read_text())["version"])
    except OSError:
        raise Missing(f"{package.name} is not installed: see what `make test-servers` said of npm") from None
