"""What an exchange does for streams: a server that refuses stream_options, and a body that was put together."""

from __future__ import annotations

import pytest

from airflow_chat_provider.core.call.exchange import NO_STREAM_OPTIONS, judge, with_server_words
from airflow_chat_provider.core.call.steps import Call, Response, Send, Sleep
from airflow_chat_provider.core.connection.settings import Settings
from airflow_chat_provider.core.errors import ProtocolError
from tests.unit.call.test_exchange import GOOD, OK, drive, error, received

WITHOUT = b'{"model": "m", "messages": [], "stream": true, "top_k": 5}'
WITH = WITHOUT[:-1] + b', "stream_options": {"include_usage": true}}'
BOTH = (WITH, WITHOUT)


def refusal(status: int = 400, message: str = "Unknown parameter: stream_options") -> Response:
    return received(status, {"error": {"message": message}})


def sent(steps: list[Send | Sleep]) -> list[tuple[int, bytes] | float]:
    return [step.seconds if isinstance(step, Sleep) else (step.attempt, step.content) for step in steps]


@pytest.mark.parametrize("said", ["Unknown parameter: stream_options", "include_usage is not permitted"])
@pytest.mark.parametrize("status", [400, 422])
def test_a_server_that_refuses_stream_options_is_asked_without_them_at_once(status: int, said: str) -> None:
    steps, reply = drive([refusal(status, said), OK], Settings(max_attempts=1), contents=BOTH)
    assert sent(steps) == [(1, WITH), (1, WITHOUT)]
    assert (reply.error, reply.attempts, reply.notes) == (None, 1, (NO_STREAM_OPTIONS,))


def test_stream_options_are_left_out_only_once() -> None:
    steps, reply = drive([refusal(), refusal(), OK], contents=BOTH)
    assert sent(steps) == [(1, WITH), (1, WITHOUT)]
    assert reply.status == 400


def test_a_second_refusal_is_reported_and_nothing_is_learnt() -> None:
    refusals = [refusal(message="Additional properties are not allowed"), refusal(message="No such model")]
    steps, reply = drive([*refusals, OK], contents=BOTH)
    assert sent(steps) == [(1, WITH), (1, WITHOUT)]
    assert str(reply.error).endswith("No such model")
    assert reply.notes == ()


@pytest.mark.parametrize(
    "said",
    ["Additional properties are not allowed", "extra fields not permitted", "Unrecognized request argument supplied"],
)
def test_a_refusal_that_names_no_field_means_stream_options(said: str) -> None:
    steps, reply = drive([refusal(message=said), OK], Settings(max_attempts=1), contents=BOTH)
    assert sent(steps) == [(1, WITH), (1, WITHOUT)]
    assert (reply.error, reply.attempts, reply.notes) == (None, 1, (NO_STREAM_OPTIONS,))


@pytest.mark.parametrize(
    "body",
    [
        {"error": {"message": "Bad Request", "details": [{"fieldViolations": [{"field": "stream_options"}]}]}},
        {"object": "error", "message": {"detail": [{"loc": ["body", "stream_options", "include_usage"], "msg": "x"}]}},
        {"message": "stream_options: property 'stream_options' is unsupported", "code": "wrong_api_format"},
        [{"error": {"code": 400, "message": 'Unknown name "stream_options": Cannot find field.'}}],
        b"json: unknown field stream_options",
    ],
)
def test_stream_options_may_be_named_anywhere_in_a_refusal(body: object) -> None:
    assert sent(drive([received(400, body), OK], contents=BOTH)[0]) == [(1, WITH), (1, WITHOUT)]


def test_what_was_refused_once_is_not_sent_again() -> None:
    steps, reply = drive([refusal(), error(500), OK], contents=BOTH)
    assert sent(steps) == [(1, WITH), (1, WITHOUT), 0.5, (2, WITHOUT)]
    assert (reply.attempts, reply.notes) == (2, (NO_STREAM_OPTIONS,))


def test_an_attempt_that_failed_otherwise_is_repeated_as_it_was() -> None:
    steps, reply = drive([error(500), OK], contents=BOTH)
    assert sent(steps) == [(1, WITH), 0.5, (2, WITH)]
    assert reply.notes == ()


@pytest.mark.parametrize(
    "outcome",
    [
        refusal(message="Unknown parameter: stream"),
        refusal(message="Unrecognized request argument supplied: top_k"),
        refusal(422, "Additional properties are not allowed ('x' was unexpected) - 'messages.0'"),
        refusal(401),
        refusal(404),
        received(200, {"error": {"message": "stream_options"}}),
    ],
)
def test_any_other_refusal_is_final(outcome: Response) -> None:
    steps, reply = drive([outcome, OK], contents=BOTH)
    assert sent(steps) == [(1, WITH)]
    assert reply.notes == ()


def test_a_call_that_was_stopped_or_has_no_time_left_is_not_sent_without_stream_options() -> None:
    assert sent(drive([refusal(), OK], contents=BOTH, aborted=True)[0]) == [(1, WITH)]
    assert sent(drive([refusal(), OK], Settings(deadline=30), took=30, contents=BOTH)[0]) == [(1, WITH)]


def test_the_second_request_has_what_is_left_of_the_deadline() -> None:
    steps, _ = drive([refusal(), OK], Settings(timeout=40, deadline=50), took=30, contents=BOTH)
    assert [step.timeout for step in steps if isinstance(step, Send)] == [40, 20]


def test_a_body_assembled_from_a_stream_is_the_reply() -> None:
    reply = judge(Response(200, {}, b"", None, GOOD), Call(Settings()), now=0)
    assert (reply.body, reply.error) == (GOOD, None)


def test_a_stream_that_ends_in_an_error_says_what_the_server_said() -> None:
    body = {**GOOD, "error": {"message": "Overloaded", "code": "busy"}}
    call = Call(Settings())
    reply = with_server_words(judge(Response(200, {}, b"", "the stream contains an error", body), call, now=0), call)
    assert isinstance(reply.error, ProtocolError)
    assert str(reply.error).endswith("the stream contains an error: Overloaded")
    assert (reply.error.code, reply.body) == ("busy", body)
