"""Replies that break on their way. Script them like those in `replies`.

With another `end`, `half_body(end=End.RESET)` is a body that a reset cuts off, and `End.HANG` one that stalls.
"""

from __future__ import annotations

from collections.abc import Iterable

from airflow_chat_provider.testing.replies import End, Reply, Step, events_of, ok, sse

_HALF = ok().body[: len(ok().body) // 2]


def reset() -> Reply:
    """A reset (RST) before the first byte of a reply."""
    return Reply(end=End.RESET, steps=_nothing)


def hang() -> Reply:
    """No reply at all, while the connection stays open."""
    return Reply(end=End.HANG, steps=_nothing)


def half_body(body: bytes = _HALF, *, end: End = End.CLOSE) -> Reply:
    """A body that ends early: Content-Length promises twice as many bytes as are sent."""
    return Reply(
        headers={"Content-Type": "application/json"},
        body=body,
        end=end,
        steps=lambda reply: (reply.head(2 * len(reply.body) + 1) + reply.body,),
    )


def cut_stream(content: str = "Hello", *, end: End = End.CLOSE) -> Reply:
    """A stream of words that ends before its finish_reason."""
    return sse(events_of(content)[:-2], done=False, end=end)


def _nothing(_reply: Reply) -> Iterable[Step]:
    return ()
