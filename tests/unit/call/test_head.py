"""The limits to what may come before a body."""

from __future__ import annotations

import pytest

from airflow_chat_provider.core.call.attempt import TOO_LONG, TOO_MANY, TOO_OFTEN, Head, HeadError

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"
INTERIM = b"HTTP/1.1 100 Continue\r\n\r\n"


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
@pytest.mark.parametrize("line", [b"\r\n", b"\n"])
def test_interim_responses_are_counted_wherever_the_network_cuts(size: int, line: bytes) -> None:
    sent = (INTERIM * 16 + OK).replace(b"\r\n", line)
    head = Head()
    for at in range(0, len(sent), size):
        assert not head.over
        head.take(sent[at : at + size])
    assert head.over


def test_a_server_that_sends_interim_responses_for_ever_is_refused() -> None:
    head = Head()
    with pytest.raises(HeadError, match="interim"):
        head.take(INTERIM * 17)
    assert TOO_OFTEN.startswith("the server")


def test_headers_that_do_not_end_are_refused() -> None:
    head = Head()
    for _ in range(64):
        head.take(b"x" * 1024)
    with pytest.raises(HeadError, match=TOO_LONG):
        head.take(b"x")


@pytest.mark.parametrize("end", [b"\r\n", b""])
def test_too_many_headers_are_refused_even_before_they_end(end: bytes) -> None:
    with pytest.raises(HeadError, match=TOO_MANY):
        Head().take(b"HTTP/1.1 200 OK\r\n" + b"a:\r\n" * 1000 + end)


def test_what_follows_the_head_is_not_looked_at() -> None:
    head = Head()
    head.take(OK + b"\n" * 5000)
    head.take(b"\n" * 5000 + INTERIM * 20)
    assert head.over


@pytest.mark.parametrize(
    "sent", [b"\x05\x00", b"\x05\x00\x00\x01\x7f\x00\x00\x01\x00\x50", b"", b"HTTP/1.1 101 X\r\n\r\n"]
)
def test_bytes_that_are_not_a_head_pass(sent: bytes) -> None:
    Head().take(sent)
