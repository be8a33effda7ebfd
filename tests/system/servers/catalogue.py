"""The servers, by the name that ``make test-servers ONLY=name`` takes."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import NamedTuple

from tests.system.servers import engines, gateways, mocks
from tests.system.servers.served import Place, Served


class Entry(NamedTuple):
    title: str
    what: str
    start: Callable[[Place], AbstractContextManager[Served]]


SERVERS = {
    "llama": Entry("llama.cpp", "the embedded server with its model", engines.llama),
    "vllm": Entry("vLLM", "on the CPU, with the same model", engines.vllm),
    "transformers": Entry("transformers serve", "with the same model", engines.transformers),
    "litellm": Entry("LiteLLM proxy", "in front of llama.cpp", gateways.litellm),
    "litellm-mock": Entry(
        "LiteLLM, own replies", "its `mock_response`, and a limit of requests", gateways.litellm_mock
    ),
    "portkey": Entry("Portkey gateway", "in front of llama.cpp", gateways.portkey),
    "aimock": Entry("aimock", "a mock of npm", mocks.aimock),
    "llmock": Entry("llmock", "a mock of PyPI, which judges its clients", mocks.llmock),
    "fakellm": Entry("fakellm", "a mock of PyPI", mocks.fakellm),
    "mockllm": Entry("mockllm", "a mock of PyPI", mocks.mockllm),
    "llm-mock-api": Entry("llm-mock-api", "a mock of PyPI", mocks.llm_mock_api),
}
