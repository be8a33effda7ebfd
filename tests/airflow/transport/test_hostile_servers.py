"""Servers that mean harm: one must not stop what else a loop does, and is told of in words that quote nobody."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from airflow_chat_provider.core.call.attempt import Attempt
from airflow_chat_provider.errors import ProtocolError, RateLimited, TransportError, TransportTimeout
from airflow_chat_provider.hooks import ChatCompletionHook
from airflow_chat_provider.testing import ChatServer, Reply, replies
from tests.support import faults
from tests.support.calling import AT_ONCE, KEY, PROMPT, REQUEST, Log, both, create, failure, transport_error

Connect = Callable[..., str]
MB = 1 << 20


def hook() -> ChatCompletionHook:
    return ChatCompletionHook(max_attempts=1)


def raw(*pieces: bytes) -> Reply:
    return Reply(steps=lambda _reply: pieces, end=faults.raw(b"").end)


def beside(call: Callable[[], Any], count: Callable[[], int]) -> tuple[Any, int]:
    """What a call raises or returns, and the most that ``count`` grew by between two turns of the loop."""

    async def both_of_them() -> tuple[Any, int]:
        most, before = 0, count()

        async def turns() -> None:
            nonlocal most, before
            while True:
                await asyncio.sleep(0)
                most, before = max(most, count() - before), count()

        ticking = asyncio.create_task(turns())
        ended = await asyncio.gather(call(), return_exceptions=True)
        ticking.cancel()
        return ended[0], most

    return asyncio.run(both_of_them())


@pytest.fixture
def pieces(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """For each piece of an answer that was worked off, how many chunks there were until then."""
    taken: list[int] = []
    original = Attempt.pieces

    def noted(attempt: Attempt, chunk: bytes) -> Iterator[list[dict[str, Any]]]:
        for chunks in original(attempt, chunk):
            taken.append(len(chunks) + (taken[-1] if taken else 0))
            yield chunks

    monkeypatch.setattr(Attempt, "pieces", noted)
    return taken


class TestTurns:
    """The loop's other tasks have their turn while an answer is read."""

    @pytest.mark.no_cover
    def test_while_bytes_come_one_by_one(self, chat: ChatServer, pieces: list[int]) -> None:
        body = replies.ok("x" * 60_000).body
        sent = b"".join(b"1\r\n%c\r\n" % byte for byte in body)
        head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
        chat.script(raw(head, sent, b"0\r\n\r\n"))
        reply, most = beside(lambda: hook().acreate(REQUEST), lambda: len(pieces))
        assert reply.text == "x" * 60_000
        assert len(pieces) > 60_000
        assert most < 4000

    def test_while_many_small_events_come_at_once(self, chat: ChatServer, pieces: list[int]) -> None:
        chunk = {"choices": [{"index": 0, "delta": {"content": "x"}}]}
        end = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
        events = "".join(f"data: {json.dumps(event)}\n\n" for event in [*[chunk] * 20_000, end])
        # All at once: a server in this process would wait for the interpreter's lock at each event.
        chat.script(raw(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n", events.encode()))
        reply, most = beside(lambda: hook().acreate({**REQUEST, "stream": True}), lambda: pieces[-1] if pieces else 0)
        assert reply.text == "x" * 20_000
        assert most < 4000

    @pytest.mark.parametrize(
        "reply",
        [
            replies.ok("x" * 200_000),
            replies.error(400, "x" * 200_000),
            replies.text(200, "x" * 200_000),
            replies.sse([{"choices": [{"index": 0, "delta": {"content": "x" * 200_000}, "finish_reason": "stop"}]}]),
            faults.half_body(replies.ok("x" * 200_000).body),
        ],
        ids=["an answer", "an error", "a text", "an event", "half an answer"],
    )
    def test_what_is_large_is_read_in_another_thread(
        self, chat: ChatServer, monkeypatch: pytest.MonkeyPatch, reply: Reply
    ) -> None:
        from airflow_chat_provider.core.call import body, stream
        from airflow_chat_provider.core.json_text import reading

        threads = set()

        def noted(data: bytes, limit: int) -> Any:
            threads.add(threading.current_thread())
            return read_json(data, limit)

        read_json = reading.read_json
        monkeypatch.setattr(body, "read_json", noted)
        monkeypatch.setattr(stream, "read_json", noted)
        chat.script(reply)
        beside(lambda: hook().acreate({**REQUEST, "stream": True}), lambda: 0)
        assert threads
        assert threading.main_thread() not in threads

    def test_what_an_error_quotes_of_a_large_request_is_looked_for_in_another_thread(
        self, chat: ChatServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from airflow_chat_provider.core.server.scrub import Scrubber

        threads = []
        scrub = Scrubber.__call__

        def noted(scrubber: Scrubber, text: str) -> str:
            threads.append(threading.current_thread())
            return scrub(scrubber, text)

        monkeypatch.setattr(Scrubber, "__call__", noted)
        prompt = "The kestrel's wing is broken. " * 40_000
        chat.script(*[replies.error(429, f"too long: {prompt[:200]}", headers=AT_ONCE)] * 3)
        request = {**REQUEST, "messages": [{"role": "user", "content": prompt}]}
        error, _ = beside(lambda: ChatCompletionHook(max_attempts=3).acreate(request), lambda: 0)
        assert isinstance(error, RateLimited)
        assert "kestrel" not in error.message
        assert len(threads) == 1, "only for the last error"
        assert threading.main_thread() not in threads

    def test_where_no_thread_is_to_be_had_the_answer_is_read_all_the_same(
        self, chat: ChatServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(**_arguments: Any) -> threading.Thread:
            raise RuntimeError("can't start new thread")

        monkeypatch.setattr("airflow_chat_provider.transport.aside.threading", SimpleNamespace(Thread=refuse))
        chat.script(replies.ok("x" * 200_000))
        assert asyncio.run(hook().acreate(REQUEST)).text == "x" * 200_000

    def test_a_cancelled_call_leaves_its_thread_to_end_by_itself(self, chat: ChatServer) -> None:
        from airflow_chat_provider.transport.aside import aside

        begun, goes_on = threading.Event(), threading.Event()

        def work() -> None:
            begun.set()
            goes_on.wait(120)

        async def cancel() -> None:
            working = asyncio.create_task(aside(work))
            assert await asyncio.to_thread(begun.wait, 30)
            working.cancel()
            with pytest.raises(asyncio.CancelledError):
                await working
            goes_on.set()
            assert await asyncio.gather(*(aside(int, str(n)) for n in range(20))) == list(range(20))

        asyncio.run(cancel())


class TestBeforeTheBody:
    @both
    def test_interim_responses_without_end_are_an_error(self, chat: ChatServer, create: Any) -> None:
        chat.script(raw(*[b"HTTP/1.1 100 Continue\r\n\r\n" * 1000] * 100))
        error = transport_error(create, hook())
        assert "interim response" in error.message
        assert error.sent

    @both
    def test_a_few_interim_responses_are_passed_over(self, chat: ChatServer, create: Any) -> None:
        chat.script(raw(b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" * 5, _bytes(replies.ok())))
        assert create(hook()).text == "Hello"

    @both
    @pytest.mark.parametrize("line", [b"a:\r\n", b"x" * 60 + b": " + b"y" * 60 + b"\r\n"])
    def test_more_headers_than_any_server_sends_are_an_error(self, chat: ChatServer, create: Any, line: bytes) -> None:
        chat.script(raw(b"HTTP/1.1 200 OK\r\n", line * 5000, b"\r\n"))
        error = transport_error(create, hook())
        assert "header" in error.message

    def test_more_trailers_than_any_server_sends_are_an_error_with_what_came(self, chat: ChatServer) -> None:
        body = replies.ok().body
        head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
        chat.script(raw(head, b"%x\r\n%s\r\n0\r\n" % (len(body), body), b"a:\r\n" * 50_000, b"\r\n"))
        with pytest.raises(TransportError, match="headers follow the response") as caught:
            asyncio.run(hook().acreate(REQUEST))
        assert caught.value.body == json.loads(body)

    @both
    def test_headers_and_trailers_as_servers_send_them_are_taken(self, chat: ChatServer, create: Any) -> None:
        body = replies.ok("x" * 100_000).body
        head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n" + b"x-a: " + b"y" * 4000 + b"\r\n\r\n"
        chat.script(raw(head, b"%x\r\n%s\r\n0\r\n" % (len(body), body), b"x-checksum: 5\r\n\r\n"))
        assert create(hook()).text == "x" * 100_000


def _bytes(reply: Reply) -> bytes:
    return b"".join(step for step in reply.steps(reply) if isinstance(step, bytes))


class TestWords:
    """What comes from below the client is told of without quoting it."""

    @both
    @pytest.mark.parametrize(
        "sent",
        [
            b"HTTP/1.1 200 OK\r\nBearer " + KEY.encode() + b" " + PROMPT.encode() + b"\r\n\r\n",
            b"HTTP/1.1 200 " + PROMPT.encode() + b"\r\nContent-Length: " + KEY.encode() + b"\r\n\r\n",
            b"Bearer " + KEY.encode() + b" " + PROMPT.encode() + b"\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: " + KEY.encode() + b"\r\n\r\n" + PROMPT.encode(),
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + KEY.encode() + PROMPT.encode() + b"\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx" + KEY.encode() + b"\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Encoding: " + KEY.encode() + b"\r\n\r\n{}",
            b"HTTP/1.1 200 OK\r\nx-request-id: " + KEY.encode() + b"\r\nContent-Length: 2\r\n\r\n{}",
            b'HTTP/1.1 400 X\r\nContent-Length: 500\r\n\r\n{"error":{"code":"%s %s","type":"%s"}}'
            % (KEY.encode(), PROMPT.encode(), PROMPT.encode())
            + b" " * (500 - 45 - len(KEY) - 2 * len(PROMPT) + 9),
        ],
        ids=["header", "length", "status line", "coding", "chunk", "footer", "encoding", "request id", "code"],
    )
    def test_no_word_of_a_broken_answer_is_in_the_error_or_the_log(
        self, chat: ChatServer, connect: Connect, create: Any, log: Log, sent: bytes
    ) -> None:
        connect(chat.url, password=KEY)
        chat.script(raw(sent))
        error = failure(create, hook())
        told = {name: value for name, value in error.to_dict().items() if name != "body"}
        for secret in (KEY, PROMPT):
            assert secret not in str(told)
            assert secret not in str(error)
            assert secret not in log.text

    @both
    def test_no_control_or_direction_character_of_a_servers_is_in_the_log_or_the_error(
        self, chat: ChatServer, create: Any, log: Log
    ) -> None:
        evil = "\x1b]0;x\x07 \x9b31m"
        ok, bad = replies.ok(headers={"x-request-id": evil}), replies.error(400, "\u202eevil\x1b[2J", "\u2066c\x1b")
        chat.script(ok, bad)
        create(hook())
        error = failure(create, hook())
        for text in (*log.lines("Chat completion"), str(error), str(error.code)):
            assert text.isprintable(), text

    def test_what_is_shown_of_a_call_and_its_steps_holds_no_prompt_no_answer_and_no_key(self) -> None:
        from airflow_chat_provider.core.call.exchange import exchange
        from airflow_chat_provider.core.call.steps import Response, Result
        from airflow_chat_provider.core.connection.settings import Settings
        from airflow_chat_provider.transport.session import call_for

        call = call_for(dict(REQUEST), Settings(api_key=KEY))
        send = next(exchange(call))
        answer = Response(200, {}, PROMPT.encode(), None, {"a": PROMPT})
        shown = repr((call, send, answer, Result(answer, 0.0)))
        assert PROMPT not in shown
        assert KEY not in shown


class TestTooMuch:
    @both
    def test_an_answer_of_endless_empty_objects_is_an_error_that_keeps_its_text(
        self, chat: ChatServer, create: Any
    ) -> None:
        body = '{"choices": [' + "{}," * 700_000 + "{}]}"
        chat.script(replies.text(200, body, "application/json"))
        error = failure(create, hook())
        assert isinstance(error, ProtocolError)
        assert "more values" in error.message
        assert error.body == body


class TestNames:
    """A name server that does not answer holds up nobody."""

    @pytest.fixture
    def deaf(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
        """Names are looked up for as long as the test runs; the event is set when one is."""
        asked, over = threading.Event(), threading.Event()

        def getaddrinfo(*_arguments: Any, **_more: Any) -> list[Any]:
            asked.set()
            over.wait(120)
            return []

        monkeypatch.setattr("socket.getaddrinfo", getaddrinfo)
        yield asked
        over.set()

    @pytest.mark.parametrize(
        ("limits", "words"),
        [({"timeout": 0.3}, r"\(timeout\)"), ({"deadline": 0.3}, r"\(deadline\)"), ({}, r"\(connect_timeout\)")],
    )
    def test_a_lookup_ends_with_the_clock(self, deaf: Any, connect: Connect, limits: Any, words: str) -> None:
        connect("http://models.example/v1", password="", extra={"connect_timeout": 0.5})
        with pytest.raises(TransportTimeout, match=words) as caught:
            create(ChatCompletionHook(max_attempts=1, **limits))
        assert not caught.value.sent

    def test_an_abort_ends_a_lookup(self, deaf: threading.Event, connect: Connect) -> None:
        connect("http://models.example/v1", password="", extra={"connect_timeout": 300})
        chat_hook = hook()
        with ThreadPoolExecutor(1) as pool:
            under_way = pool.submit(create, chat_hook)
            assert deaf.wait(120)
            chat_hook.abort()
            error = under_way.exception(30)
        assert isinstance(error, TransportError)
        assert not error.sent

    def test_a_process_ends_though_a_lookup_does_not(self, project: Path) -> None:
        script = (
            "import socket, threading\n"
            "socket.getaddrinfo = lambda *a, **k: threading.Event().wait()\n"
            "from airflow_chat_provider.core.call.exchange import exchange\n"
            "from airflow_chat_provider.core.call.steps import Call\n"
            "from airflow_chat_provider.core.connection.settings import Settings\n"
            "from airflow_chat_provider.transport.session import Session\n"
            "settings = Settings(base_url='http://models.example/v1', connect_timeout=0.2, max_attempts=1)\n"
            "print(Session(settings).run(exchange(Call(settings)), {}).error)\n"
        )
        done = subprocess.run([sys.executable, "-c", script], cwd=project, capture_output=True, timeout=240, check=True)
        assert b"connect_timeout" in done.stdout

    def test_an_address_needs_no_thread(self, chat: ChatServer, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("airflow_chat_provider.transport.sync_network.threading", None)
        assert create(hook()).text == "Hello"


WITHOUT_FILES = """
import asyncio, os, resource, sys
from airflow_chat_provider.core.call.exchange import exchange
from airflow_chat_provider.core.call.steps import Call
from airflow_chat_provider.core.answer.record import dump, load, safe
from airflow_chat_provider.core.connection.settings import Settings
from airflow_chat_provider.testing import ChatServer, replies
from airflow_chat_provider.transport.session import AsyncSession, Session

kind, name = {"Session": Session, "AsyncSession": AsyncSession}[sys.argv[1]], sys.argv[2]
answers = {
    "answer": replies.ok("Bonjour \\u00e9\\u00e8 \\x00"),
    "large": replies.ok("\\u65e5" * 200_000),
    "error": replies.error(429, "slow d\\u00f6wn", headers={"retry-after": "Wed, 21 Oct 2099 07:28:00 GMT"}),
    "text": replies.text(500, "<h1>no</h1>", "text/html; charset=iso-8859-15"),
    "stream": replies.sse([{"choices": [{"index": 0, "delta": {"content": "Hi"}, "finish_reason": "stop"}]}]),
    "deflate": replies.ok("Hi", headers={"x-request-id": "\\u00e9"}),
}

taken = []

def last_file(_request):
    "The request is here: from now on nobody gets a file, a socket or a module any more."
    try:
        while True:
            taken.append(os.open("/dev/null", os.O_RDONLY))
    except OSError:
        return answers[name]

resource.setrlimit(resource.RLIMIT_NOFILE, (256, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))

with ChatServer(last_file) as server:
    settings = Settings(base_url=server.url, max_attempts=1)

    async def ask():
        return await AsyncSession(settings).run(exchange(Call(settings, contents=(b"{}",))), {})

    if kind is AsyncSession:
        loop = asyncio.new_event_loop()
        reply = loop.run_until_complete(ask())
    else:
        reply = Session(settings).run(exchange(Call(settings, contents=(b"{}",))), {})
    kept = load(dump(safe(reply)))
    list(map(os.close, taken))
print(kept.status, type(kept.error).__name__, len(str(kept.body)))
"""


@pytest.mark.parametrize("client", ["Session", "AsyncSession"])
@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("answer", "200 NoneType"),
        ("large", "200 NoneType"),
        ("error", "429 RateLimited"),
        ("text", "500 StatusError"),
        ("stream", "200 NoneType"),
        ("deflate", "200 NoneType"),
    ],
)
def test_an_answer_that_comes_when_no_file_can_be_opened_any_more_is_there(
    project: Path, client: str, name: str, found: str
) -> None:
    command = [sys.executable, "-c", WITHOUT_FILES, client, name]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True, timeout=240, check=False)
    assert done.stdout.startswith(found), done.stderr
