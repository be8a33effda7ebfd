"""What the callers of the soak ask for, and how it is written down what they got."""

from __future__ import annotations

import json
import random
import re
import threading
import time
from pathlib import Path
from typing import Any

SCHEMA = {
    "type": "object",
    "properties": {"number": {"type": "integer"}, "mark": {"type": "string"}},
    "required": ["number", "mark"],
    "additionalProperties": False,
}
STYLES: tuple[dict[str, Any], ...] = (
    {"result_format": "text"},
    {"request": {"stream": True}},
    {"response_schema": SCHEMA, "result_format": "json"},
    {"result_format": "json", "on_incomplete": "fail"},
)
"""Arguments of a task."""
_MARK = re.compile(r"ans-\d+\.")
_KEY = re.compile(r"Idempotency-Key ([\w.-]*\w)")


class Clients:
    """Writes down what callers hold, and what their errors say."""

    def __init__(self, folder: Path, seed: str, until: float) -> None:
        self.folder = folder
        self.seed = seed
        self.until = until
        self.calls = 0
        self._file = (folder / "clients.jsonl").open("w", buffering=1)
        self._lock = threading.Lock()

    @property
    def over(self) -> bool:
        return time.monotonic() > self.until

    def draw(self, name: str) -> random.Random:
        return random.Random(f"{self.seed} {name}")

    def note(self, subject: str, held: str, words: str, ends: list[tuple[str, int]], **more: Any) -> None:
        """``held``: all that is left of it; ``words``: all that was said; ``ends``: what each try of it came to."""
        marks, named = sorted(set(_MARK.findall(held))), sorted(set(_MARK.findall(words)))
        keys = sorted(set(_KEY.findall(words)))
        dialogues = [(_MARK.findall(text), answers) for text, answers in ends if answers > 1]
        line = {"subject": subject, "held": marks, "named": named, "keys": keys, "dialogues": dialogues, **more}
        with self._lock:
            self.calls += 1
            self._file.write(json.dumps(line) + "\n")


def counted(values: Any) -> int:
    """Answers, by the usage that was left."""
    usage = values.get("usage") if isinstance(values, dict) else None
    return int(usage.get("completion_tokens") or 0) if isinstance(usage, dict) else 0
