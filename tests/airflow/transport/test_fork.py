"""A process that is forked while its parent has connections: Airflow's executors and many DAGs do that."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pickle
import select
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from airflow_chat_provider.errors import TransportError
from airflow_chat_provider.hooks import ChatCompletionHook
from airflow_chat_provider.testing import ChatServer, Received, Reply, replies
from airflow_chat_provider.transport.session import AsyncSession
from tests.support.calling import REQUEST, async_session
from tests.support.certs import Certificates

# Python 3.12 warns of a fork beside threads, which is what these tests are about.
pytestmark = pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
HANG = 8.0


class Child:
    """``do`` in a forked process, which then ends at once, as Airflow's workers do."""

    def __init__(self, do: Callable[[], Any]) -> None:
        self._out, out = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            signal.alarm(60)  # whatever becomes of the test
            try:
                try:
                    told = pickle.dumps((do(), None))
                except BaseException:  # noqa: BLE001 - told by the parent
                    told = pickle.dumps((None, traceback.format_exc()))
                os.write(out, told)
            finally:
                os._exit(0)
        os.close(out)

    def result(self) -> Any:
        """What ``do`` returned."""
        try:
            if not select.select([self._out], [], [], HANG)[0]:
                os.kill(self.pid, signal.SIGKILL)
                pytest.fail("the forked process hangs")
            returned, failure = pickle.loads(os.read(self._out, 1 << 16))
        finally:
            os.close(self._out)
            os.waitpid(self.pid, 0)
        assert failure is None, failure
        return returned


def prompt_of(request: Received) -> str:
    return str(request.json["messages"][-1]["content"])


def echo(request: Received) -> Reply:
    return replies.ok(prompt_of(request))


@pytest.fixture(params=["http", "https"])
def server(
    request: pytest.FixtureRequest, connect: Callable[..., str], certificates: Certificates
) -> Iterator[ChatServer]:
    """Answers each request with its own prompt; the connection `chat_default` is to it."""
    tls = certificates.server_tls if request.param == "https" else None
    with ChatServer(default=echo, tls=tls) as running:
        connect(running.url, extra={"verify": str(certificates.ca), "max_attempts": 1, "timeout": HANG})
        yield running


def request(prompt: str) -> dict[str, Any]:
    return {"model": "m", "messages": [{"role": "user", "content": prompt}]}


def ask(hook: ChatCompletionHook, prompt: str) -> str:
    return hook.create(request(prompt)).text


def connections(server: ChatServer, *prompts: str) -> set[int]:
    """Over which connections the server got these."""
    return {request.connection_id for request in server.requests if prompt_of(request) in prompts}


@contextlib.contextmanager
def used(prompt: str = "before") -> Iterator[ChatCompletionHook]:
    """A hook with an idle connection."""
    with contextlib.closing(ChatCompletionHook()) as hook:
        assert ask(hook, prompt) == prompt
        yield hook


@contextlib.contextmanager
def meanwhile(do: Callable[[], Any]) -> Iterator[Callable[[], Any]]:
    """``do`` on another thread; what is given waits for what it returns."""
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(do()), daemon=True)
    thread.start()

    def result() -> Any:
        thread.join(HANG)
        return found[0]

    yield result
    thread.join(HANG)


def test_every_process_gets_the_answers_to_its_own_questions(server: ChatServer) -> None:
    def slow_echo(request: Received) -> Reply:
        return replies.delay(0.01, echo(request))

    server.default = slow_echo

    def ask_many(name: str) -> tuple[list[str], list[str]]:
        asked = [f"{name}-{number}" for number in range(10)]
        return asked, [ask(hook, prompt) for prompt in asked]

    with used() as hook:
        children = [Child(lambda name=name: ask_many(f"K{name}")) for name in range(3)]  # type: ignore[misc]
        pairs = [ask_many("parent"), *(child.result() for child in children)]
    for asked, answered in pairs:
        assert answered == asked


def test_a_child_opens_its_own_connection_and_the_parents_goes_on(server: ChatServer) -> None:
    def child() -> str:
        with contextlib.closing(hook):
            return ask(hook, "child")

    with used() as hook:
        assert Child(child).result() == "child"
        assert ask(hook, "after") == "after"
    assert not connections(server, "child") & connections(server, "before", "after")
    assert len(connections(server, "before", "after")) == 1


@pytest.mark.parametrize("name", ["abort", "close"])
def test_what_a_child_ends_is_not_the_parents_call(server: ChatServer, name: str) -> None:
    go_on = threading.Event()

    def held(request: Received) -> Reply:
        go_on.wait(HANG)
        return echo(request)

    with used() as hook:
        server.default = held
        with meanwhile(lambda: ask(hook, "under way")) as answer:
            assert server.wait_requests(2)
            Child(getattr(hook, name)).result()
            go_on.set()
            assert answer() == "under way"


def test_a_connection_that_the_parent_closes_is_closed_while_the_child_lives(server: ChatServer) -> None:
    held, release = os.pipe()
    with used():
        child = Child(lambda: os.read(held, 1))
    assert server.wait_all_closed()
    os.write(release, b"!")
    child.result()
    os.close(held)
    os.close(release)


def test_a_child_that_is_forked_while_the_connection_is_read_does_not_wait_for_ever(
    server: ChatServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    parent, reading, go_on = os.getpid(), threading.Event(), threading.Event()
    get_connection = ChatCompletionHook.get_connection

    def slow(conn_id: str) -> Any:
        if os.getpid() == parent:
            reading.set()
            go_on.wait(HANG)
        return get_connection(conn_id)

    monkeypatch.setattr(ChatCompletionHook, "get_connection", staticmethod(slow))
    hook = ChatCompletionHook()
    with meanwhile(lambda: ask(hook, "parent")) as answer:
        assert reading.wait(HANG)
        try:
            assert Child(lambda: ask(hook, "child")).result() == "child"
        finally:
            go_on.set()
        assert answer() == "parent"
    hook.close()


def test_a_child_that_is_forked_while_the_pool_is_locked_does_not_wait_for_ever(server: ChatServer) -> None:
    holding, go_on = threading.Event(), threading.Event()

    def hold() -> None:
        with hook.session.client._transport._pool._optional_thread_lock:
            holding.set()
            go_on.wait(HANG)

    with used() as hook, meanwhile(hold):
        assert holding.wait(HANG)
        try:
            assert Child(lambda: ask(hook, "child")).result() == "child"
        finally:
            go_on.set()


def test_a_child_takes_nothing_of_the_stream_that_its_parent_reads(server: ChatServer) -> None:
    go_on = threading.Event()
    whole = replies.stream("some words of an answer")

    def in_two(reply: Reply) -> Iterator[bytes]:
        head, first, *rest = (step for step in whole.steps(whole) if isinstance(step, bytes))
        yield head + first
        go_on.wait(HANG)
        yield b"".join(rest)

    server.default = Reply(headers=whole.headers, steps=in_two)
    with contextlib.closing(ChatCompletionHook()) as hook, hook.stream(dict(REQUEST)) as stream:
        chunks = iter(stream)
        next(chunks)

        def read_on() -> str:
            go_on.set()  # in the child's own memory
            with pytest.raises(TransportError) as caught:
                list(chunks)
            return type(caught.value).__name__

        child = Child(read_on)
        time.sleep(0.1)  # long enough for a child that reads to be there first
        go_on.set()
        list(chunks)
        assert child.result() == "TransportError"
        assert stream.reply.text == "some words of an answer"


def test_a_child_opens_its_own_connection_on_an_event_loop_of_its_own(server: ChatServer) -> None:
    with asyncio.Runner() as runner:
        session = runner.run(async_session(ChatCompletionHook()))
        assert runner.run(say(session, "before")) == "before"
        assert Child(lambda: asyncio.run(acreate("child"))).result() == "child"
        assert runner.run(say(session, "after")) == "after"
        runner.run(session.aclose())
    assert not connections(server, "child") & connections(server, "before", "after")


@pytest.mark.parametrize(
    "server", ["http"], indirect=True
)  # to a name no loop of the parent's connects: it has threads
def test_a_child_that_goes_on_with_its_parents_event_loop_opens_its_own_connection(server: ChatServer) -> None:
    with asyncio.Runner() as runner:
        session = runner.run(async_session(ChatCompletionHook()))
        assert runner.run(say(session, "before")) == "before"
        assert Child(lambda: runner.run(say(session, "child"))).result() == "child"
        assert runner.run(say(session, "after")) == "after"
        runner.run(session.aclose())
    assert not connections(server, "child") & connections(server, "before", "after")


async def say(session: AsyncSession, prompt: str) -> str:
    return (await session.send(request(prompt))).raise_for_error().text


async def acreate(prompt: str) -> str:
    return (await ChatCompletionHook().acreate(request(prompt))).text
