"""Feeding bytes to what takes them in steps."""

from __future__ import annotations

from typing import Any

from airflow_chat_provider.core.call.attempt import Attempt
from airflow_chat_provider.core.call.body import Body


def feed(target: Attempt | Body, data: bytes) -> list[dict[str, Any]]:
    """The chunks that ``data`` completes, of all steps."""
    return [chunk for chunks in target.pieces(data) for chunk in chunks]
