"""Mistakes in libraries that are written in Rust."""

from __future__ import annotations


def is_panic(error: BaseException) -> bool:
    """Did such a library give up, as rpds does where Python's stack is full? It is not an Exception then."""
    return type(error).__name__ == "PanicException"
