"""What a running server is, as far as the features want to know."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.system.servers.direct import Answer, call

# What the mocks are told to answer, by a part of the last message.
COLOURS = "Red, green and blue are three colours."
NUMBERS = "Name three colours."
WEATHER = "What is the weather in Rome?"
JUDGE = "Judge this review: the soup was good."
WAY = "Left is the way home. Which way do I go?"
SCRIPT = {NUMBERS: COLOURS, JUDGE: '{"verdict": "good"}', WAY: '{"branch": "left"}'}


@dataclass(frozen=True)
class Place:
    """Where the environments are, and where logs go."""

    light: Path
    engines: Path
    node: Path
    model: Path
    logs: Path


@dataclass
class Served:
    """``count(body, reply)`` is what the server itself says of a call's tokens: fields of usage.

    ``limit()`` has the server refuse for a while by 429, and returns what to change in a request for that;
    ``unlimit()`` ends it; ``verdict()`` is what the server thinks of the client.
    """

    url: str
    model: str
    version: str
    key: str = "sk-test-1234567890"
    headers: Mapping[str, str] = field(default_factory=dict)
    count: Callable[[dict[str, Any], dict[str, Any]], dict[str, int]] | None = None
    limit: Callable[[], dict[str, Any]] | None = None
    unlimit: Callable[[], object] = lambda: None
    verdict: Callable[[], list[Any]] | None = None

    def get(self, path: str, log: Path | None = None) -> Answer:
        return call(self.url + path, headers=self._headers(), log=log)

    def post(self, body: Any, *, key: str | None = None, log: Path | None = None) -> Answer:
        return call(f"{self.url}/chat/completions", body, headers=self._headers(key), log=log)

    def root(self, path: str, body: Any = None) -> Answer:
        """Beside the API: a server's own pages."""
        return call(self.url.removesuffix("/v1") + path, body, headers=self._headers())

    def _headers(self, key: str | None = None) -> dict[str, str]:
        return {"Authorization": f"Bearer {key or self.key}", **self.headers}
