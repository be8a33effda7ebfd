"""A second client, which knows nothing of the project: what does the server itself answer?"""

from __future__ import annotations

import http.client
import json
import re
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SECONDS = 120.0


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    content: bytes

    @property
    def ok(self) -> bool:
        return self.status < 400

    @property
    def json(self) -> Any:
        return json.loads(self.content)

    @property
    def choice(self) -> dict[str, Any]:
        return dict(self.json["choices"][0])

    @property
    def text(self) -> str:
        """The first answer's, streamed or not."""
        if self.headers.get("content-type", "").startswith("text/event-stream"):
            return self.streamed_text(0)
        return self.choice["message"].get("content") or ""

    @property
    def chunks(self) -> list[Any]:
        """The events of a stream, read in the plainest way."""
        data = re.findall(rb"^data: ?(.*?)\r?$", self.content, re.MULTILINE)
        return [json.loads(line) for line in data if line.strip() not in {b"", b"[DONE]"}]

    def streamed_text(self, index: int) -> str:
        deltas = (choice["delta"] for chunk in self.chunks for choice in chunk["choices"] if choice["index"] == index)
        return "".join(delta.get("content") or "" for delta in deltas)

    @property
    def words(self) -> str:
        """What the server says of its refusal, in short."""
        text = self.content.decode(errors="replace")
        try:
            found = _message(json.loads(text))
        except ValueError:
            found = text
        return f"{self.status}: {' '.join(found.split())[:160]}"


def _message(body: Any) -> str:
    for key in ("error", "message", "detail", "msg"):
        if isinstance(body, dict) and body.get(key):
            return _message(body[key])
    return body if isinstance(body, str) else json.dumps(body)


def call(url: str, body: Any = None, *, headers: Mapping[str, str], log: Path | None = None) -> Answer:
    """POST a body as JSON, or GET. What went and came is kept in ``log``."""
    parts = urllib.parse.urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=SECONDS)
    sent = None if body is None else json.dumps(body).encode()
    try:
        path = parts.path + (f"?{parts.query}" if parts.query else "")
        own = {**headers, **({} if sent is None else {"Content-Type": "application/json"})}
        connection.request("GET" if sent is None else "POST", path, sent, own)
        reply = connection.getresponse()
        answer = Answer(reply.status, {k.lower(): v for k, v in reply.getheaders()}, reply.read())
    finally:
        connection.close()
    if log is not None:
        with log.open("ab") as file:
            lines = [f"{name}: {value}" for name, value in answer.headers.items()]
            head = f"{path}\n{(sent or b'').decode()}\n\n{answer.status}\n" + "\n".join(lines)
            file.write(head.encode() + b"\n\n" + answer.content + b"\n\n====\n")
    return answer
