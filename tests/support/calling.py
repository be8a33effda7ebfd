"""One body of test for both ways to call: `@both` gives it `create`, once synchronous and once asynchronous."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

from airflow_chat_provider.core.answer.reply import Reply
from airflow_chat_provider.errors import ChatCompletionError, TransportError
from airflow_chat_provider.hooks import ChatCompletionHook
from airflow_chat_provider.transport.session import AsyncSession

KEY = "sk-canary-key-5f2b7c"
PROMPT = "canary prompt about nothing"
REQUEST: Mapping[str, Any] = {"model": "test-model", "messages": [{"role": "user", "content": PROMPT}]}
AT_ONCE = {"retry-after-ms": "1"}

Create = Callable[..., Reply]


def create(hook: ChatCompletionHook, request: Mapping[str, Any] = REQUEST, **arguments: Any) -> Reply:
    with contextlib.closing(hook):
        return hook.create(request, **arguments)


def acreate(hook: ChatCompletionHook, request: Mapping[str, Any] = REQUEST, **arguments: Any) -> Reply:
    return asyncio.run(hook.acreate(request, **arguments))


async def async_session(hook: ChatCompletionHook) -> AsyncSession:
    """What the hook's asynchronous methods call through; to be closed by the caller."""
    return AsyncSession(await asyncio.to_thread(lambda: hook.settings), hook.log)


both = pytest.mark.parametrize("create", [create, acreate], ids=["sync", "async"])


def failure(create: Create, hook: ChatCompletionHook) -> ChatCompletionError:
    with pytest.raises(ChatCompletionError) as caught:
        create(hook)
    return caught.value


def outcome(create: Create, hook: ChatCompletionHook) -> dict[str, Any]:
    """All that a caller can see of a call's end."""
    try:
        reply = create(hook)
    except ChatCompletionError as error:
        return error.to_dict()
    return {"error": None, "status": reply.status, "body": reply.body, "attempts": reply.attempts}


def transport_error(create: Create, hook: ChatCompletionHook) -> TransportError:
    error = failure(create, hook)
    assert isinstance(error, TransportError), repr(error)
    return error


class Log:
    """Everything that was logged at INFO and above: Airflow's own logger prints, others go by way of logging."""

    def __init__(self, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> None:
        self._capsys, self._caplog, self._seen = capsys, caplog, ""

    @property
    def text(self) -> str:
        captured = self._capsys.readouterr()
        self._seen += re.sub(r"\x1b\[[0-9;]*m", "", captured.out + captured.err)
        return self._seen + self._caplog.text

    def lines(self, part: str) -> list[str]:
        return [line for line in self.text.splitlines() if part in line]


@contextlib.contextmanager
def deaf_port() -> Iterator[int]:
    """A port whose queue of connections is full: connecting to it gets no answer at all."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(4):
            queued = stack.enter_context(socket.socket())
            queued.setblocking(False)
            queued.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]


@contextlib.contextmanager
def mute_port() -> Iterator[socket.socket]:
    """A listener that takes connections and says nothing, as one that waits for a TLS handshake would."""
    with socket.create_server(("127.0.0.1", 0), backlog=16) as listener:
        yield listener


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])
