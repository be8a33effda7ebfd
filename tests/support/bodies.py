"""The collection of request bodies, and what plain jsonschema says of one: the judge of our own validator."""

from __future__ import annotations

import json
from copy import deepcopy
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

CASES: list[dict[str, Any]] = [
    json.loads(line)
    for line in (Path(__file__).parent / "request_bodies.jsonl").read_text(encoding="utf-8").splitlines()
]
NAMES = {"seed": "2023-12", "current": "2026-11"}
MINIMAL = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}


@cache
def shipped(name: str) -> Any:
    """A schema as the file has it. Shared: look, do not touch."""
    return json.loads(files("airflow_chat_provider.core").joinpath("schemas", f"{name}.json").read_text("utf-8"))


def without_nullable(schema: Any) -> Any:
    """The same schema in the words of JSON Schema alone: plain jsonschema has never heard of ``nullable``."""
    if isinstance(schema, list):
        return [without_nullable(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    plain = {key: without_nullable(value) for key, value in schema.items()}
    if plain.pop("nullable", False):
        plain["type"] = [plain["type"], "null"]
    return plain


@cache
def judge(name: str) -> Any:
    """Plain jsonschema for a shipped schema; it ignores ``discriminator``, and tries every branch instead."""
    return Draft202012Validator(without_nullable(shipped(name)))


def leaves(value: Any, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """The path of each value in a body, the body itself first."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(below for key, item in items for below in leaves(item, (*path, key)))]


def replaced(value: Any, path: tuple[str | int, ...], new: Any) -> Any:
    """A copy of ``value`` with ``new`` at ``path``."""
    if not path:
        return new
    copy = deepcopy(value)
    inner = copy
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = new
    return copy
