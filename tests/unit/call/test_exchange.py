"""One call, attempt by attempt. The exchange is pure, so the tests are its driver: they answer what it yields."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import pytest

from airflow_chat_provider.core.answer.reply import Reply
from airflow_chat_provider.core.call.exchange import concerns_all, exchange, judge, with_server_words
from airflow_chat_provider.core.call.steps import AFRESH, Begun, Call, Cut, Response, Result, Send, Sleep
from airflow_chat_provider.core.connection.settings import Settings
from airflow_chat_provider.core.errors import (
    ChatCompletionError,
    ProtocolError,
    RateLimited,
    StatusError,
    TransportError,
    TransportTimeout,
)

GOOD = {
    "id": "c",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}],
}
PROMPT = "a long prompt about kestrels that nobody else may read"
KEY = "sk-secret-7f3a"


def received(status: int, body: Any = None, problem: str | None = None, **headers: str) -> Response:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Response(status, names, content, problem)


def error(status: int, **headers: str) -> Response:
    return received(status, {"error": {"message": "No", "type": "t", "code": "c"}}, **headers)


def held(code: str | int, message: str = "No", **headers: str) -> Response:
    return received(200, {"error": {"message": message, "code": code}}, **headers)


OK = received(200, GOOD)
ENDED = {"choices": [{"index": 0, "message": {"content": "H"}, "finish_reason": "error"}]}
CUT = Response(200, {}, b"", Cut("the stream ended"), GOOD)
UNREACHABLE = TransportError("no route", sent=False)


def drive(
    outcomes: Iterable[Response | TransportError | None],
    settings: Settings | None = None,
    *,
    took: float = 1.0,
    jitter: float = 0.5,
    aborted: bool = False,
    contents: tuple[bytes, ...] = (b"",),
    begun: Begun = AFRESH,
    retries: bool = True,
) -> tuple[list[Send | Sleep], Reply]:
    """Each attempt takes ``took`` seconds of a clock that the test keeps; a wait takes exactly what was asked."""
    steps: list[Send | Sleep] = []
    clock, answers = 0.0, iter(outcomes)
    request = json.loads(contents[-1] or b"{}")
    conversation = exchange(Call(settings or Settings(), contents, request=request), begun, retries=retries)
    step = next(conversation)
    while True:
        steps.append(step)
        clock += step.seconds if isinstance(step, Sleep) else took
        outcome = next(answers) if isinstance(step, Send) else None
        try:
            step = conversation.send(Result(outcome, clock, now=clock, jitter=jitter, aborted=aborted))
        except StopIteration as end:
            return steps, end.value


def brief(steps: list[Send | Sleep]) -> str:
    return " ".join(f"send{step.attempt}" if isinstance(step, Send) else f"sleep{step.seconds:g}" for step in steps)


SEQUENCES: list[tuple[str, list[Any], str, int | None, type | None]] = [
    ("a completion", [OK], "send1", 200, None),
    ("429 429 200", [error(429), error(429), OK], "send1 sleep0.5 send2 sleep1 send3", 200, None),
    ("429 that says when", [error(429, retry_after="7"), OK], "send1 sleep7 send2", 200, None),
    ("500 for ever", [error(500)] * 9, "send1 sleep0.5 send2 sleep1 send3", 500, StatusError),
    ("503 is an overload", [error(503)] * 9, "send1 sleep0.5 send2 sleep1 send3", 503, RateLimited),
    ("a final error", [error(401)], "send1", 401, StatusError),
    ("500, then a final error", [error(500), error(404)], "send1 sleep0.5 send2", 404, StatusError),
    ("told not to", [error(500, x_should_retry="false")], "send1", 500, StatusError),
    ("told to", [error(400, x_should_retry="true"), OK], "send1 sleep0.5 send2", 200, None),
    ("not reached, then 200", [UNREACHABLE, OK], "send1 sleep0.5 send2", 200, None),
    ("never reached", [UNREACHABLE] * 9, "send1 sleep0.5 send2 sleep1 send3", None, TransportError),
    ("cut off, then 200", [TransportTimeout("slow", status=200, sent=True), OK], "send1 sleep0.5 send2", 200, None),
    ("a 200 that is none is not asked again", [received(200, {})], "send1", 200, ProtocolError),
    ("nothing was sent", [None, OK], "send1 sleep0.5 send2", 200, None),
    (
        "a 200 that holds a 429",
        [held(429), held("rate_limit_exceeded"), OK],
        "send1 sleep0.5 send2 sleep1 send3",
        200,
        None,
    ),
    ("a 200 that holds a 429 for ever", [held(429)] * 9, "send1 sleep0.5 send2 sleep1 send3", 200, RateLimited),
    ("a 200 that says when", [held(429, retry_after="7"), OK], "send1 sleep7 send2", 200, None),
    ("a 200 that holds a 503", [held(503)] * 9, "send1 sleep0.5 send2 sleep1 send3", 200, RateLimited),
    ("a 200 that holds a 500", [held("server_error"), OK], "send1 sleep0.5 send2", 200, None),
    ("a 200 that holds a 401", [held(401)], "send1", 200, StatusError),
    ("a 200 that holds a 402", [held("insufficient_quota")], "send1", 200, StatusError),
    ("a 200 that holds what nobody knows", [held("odd")], "send1", 200, ProtocolError),
    ("a 200 of an account without money", [held("odd", "insufficient balance")], "send1", 200, StatusError),
    ("a 200 that says not to", [held(500, x_should_retry="false")], "send1", 200, StatusError),
    ("blank lines", [received(200, b"\n \n"), OK], "send1 sleep0.5 send2", 200, None),
    ("nothing", [received(200, b""), OK], "send1 sleep0.5 send2", 200, None),
    ("nothing, as it says", [received(204, b"")], "send1", 204, ProtocolError),
    ("blank lines for ever", [received(200, b"\n")] * 9, "send1 sleep0.5 send2 sleep1 send3", 200, ProtocolError),
    ("JSON that was cut off", [received(200, b'{"choices": ['), OK], "send1 sleep0.5 send2", 200, None),
    ("a page", [received(200, b"<html>")], "send1", 200, ProtocolError),
    ("words", [received(200, b"hello")], "send1", 200, ProtocolError),
    ("a cut stream", [CUT, OK], "send1 sleep0.5 send2", 200, None),
    ("a cut stream for ever", [CUT] * 9, "send1 sleep0.5 send2 sleep1 send3", 200, ProtocolError),
    ("a stream that ends in an error", [Response(200, {}, b"", None, ENDED), OK], "send1 sleep0.5 send2", 200, None),
    ("an answer that ends in an error", [received(200, ENDED)], "send1", 200, ProtocolError),
    ("no choices", [received(200, {"choices": []})], "send1", 200, ProtocolError),
    ("too large", [Response(200, {}, b"{", "too large")], "send1", 200, ProtocolError),
    ("no money", [received(429, {"error": {"code": "1113", "message": "x"}})], "send1", 429, StatusError),
    ("no money, in a 500", [received(500, {"error": "insufficient balance (1008)"})], "send1", 500, StatusError),
    ("too large a request", [received(429, {"error": "Limit 9, Requested 10"})], "send1", 429, StatusError),
    ("a wait in the body", [received(503, {"error": "x", "estimated_time": 2}), OK], "send1 sleep2 send2", 200, None),
    ("a wait in the words", [received(429, {"error": "try again in 3s"}), OK], "send1 sleep3 send2", 200, None),
    ("a redirect", [error(302, location="https://h2")], "send1", 302, StatusError),
    ("201 is a success", [received(201, GOOD)], "send1", 201, None),
]


@pytest.mark.parametrize(
    ("name", "outcomes", "steps", "status", "kind"), SEQUENCES, ids=lambda v: v if isinstance(v, str) else ""
)
def test_the_steps_of_a_call(name: str, outcomes: list[Any], steps: str, status: int | None, kind: type | None) -> None:
    made, reply = drive(outcomes)
    assert brief(made) == steps
    assert (reply.status, type(reply.error) if reply.error else None) == (status, kind)
    assert reply.attempts == steps.count("send")
    assert reply.seconds == pytest.approx(reply.attempts + sum(s.seconds for s in made if isinstance(s, Sleep)))


def test_max_attempts_of_one_makes_one_attempt() -> None:
    assert brief(drive([error(500)], Settings(max_attempts=1))[0]) == "send1"


def test_without_retries_one_attempt_is_made_and_the_error_tells_when_to_come_back() -> None:
    steps, reply = drive([error(429, retry_after="7"), OK], retries=False, begun=Begun(2, 30.0))
    assert brief(steps) == "send2"
    assert isinstance(reply.error, RateLimited)
    assert (reply.attempts, reply.seconds, reply.error.retry_after) == (2, 31.0, 7.0)


def test_without_retries_a_server_may_still_refuse_stream_options() -> None:
    refused = received(400, {"error": {"message": "Unknown parameter: stream_options"}})
    steps, reply = drive([refused, OK], contents=(b"{}", b"[]"), retries=False)
    assert [step.content for step in steps if isinstance(step, Send)] == [b"{}", b"[]"]
    assert reply.error is None


def test_an_attempt_has_timeout_or_what_is_left_of_the_deadline() -> None:
    steps, reply = drive([error(500)] * 9, Settings(timeout=40, deadline=100, max_attempts=9), took=30)
    sends = [step.timeout for step in steps if isinstance(step, Send)]
    assert sends == [40, 40, pytest.approx(38.5), pytest.approx(6.5)]
    assert isinstance(reply.error, StatusError)


def test_a_wait_that_the_deadline_has_no_room_for_is_handed_on() -> None:
    steps, reply = drive([error(429, retry_after="7200")])
    assert brief(steps) == "send1"
    assert isinstance(reply.error, RateLimited)
    assert (reply.error.retry_after, reply.error.final) == (7200.0, False)


def test_nothing_is_sent_after_the_deadline_by_a_driver_that_overslept() -> None:
    conversation = exchange(Call(Settings(deadline=10)))
    next(conversation)
    wait = conversation.send(Result(error(500), 1.0, jitter=0.5))
    assert isinstance(wait, Sleep)
    assert (wait.seconds, wait.attempt, getattr(wait.error, "status", None)) == (0.5, 1, 500)
    with pytest.raises(StopIteration) as end:
        conversation.send(Result(None, 60.0))
    assert (end.value.value.status, end.value.value.attempts) == (500, 1)


def test_an_aborted_attempt_is_the_last() -> None:
    steps, reply = drive([error(500)], aborted=True)
    assert (brief(steps), reply.status) == ("send1", 500)


def test_an_abort_while_waiting_ends_the_call_with_the_last_answer() -> None:
    conversation = exchange(Call(Settings()))
    next(conversation)
    assert isinstance(conversation.send(Result(error(429), 1.0, jitter=0.5)), Sleep)
    with pytest.raises(StopIteration) as end:
        conversation.send(Result(None, 1.1, aborted=True))
    assert (end.value.value.status, end.value.value.attempts) == (429, 1)


def test_an_answer_that_came_despite_an_abort_counts() -> None:
    _, reply = drive([OK], aborted=True)
    assert (reply.error, reply.body) == (None, GOOD)


def judged(outcome: Response | TransportError, **settings: Any) -> ChatCompletionError:
    call = Call(
        Settings(conn_id="mine", base_url="https://h/v1", api_key=KEY, **settings),
        request={"messages": [{"role": "user", "content": PROMPT}]},
    )
    found = with_server_words(judge(outcome, call, now=0.0), call).error
    assert found is not None
    assert KEY not in str(found)
    assert PROMPT[:16] not in str(found)
    return found


def test_a_status_error_holds_what_the_server_said() -> None:
    body = {"error": {"message": f"Bad {PROMPT} {KEY}", "type": "invalid_request_error", "code": "bad"}}
    found = judged(received(400, body, x_request_id="req_1"))
    assert str(found) == "Correct the request (HTTP 400, bad): Bad *** ***"
    assert (found.status, found.code, found.request_id, found.body) == (400, "bad", "req_1", body)
    assert found.final


@pytest.mark.parametrize(
    ("outcome", "kind", "final"),
    [
        (received(429, {"error": {"code": "insufficient_quota"}}), StatusError, True),
        (received(429, {"error": {"type": "Insufficient_Quota", "code": None}}), StatusError, True),
        (received(429, {"error": {"code": "insufficient_quota"}}, x_should_retry="true"), StatusError, False),
        (received(429, {"error": {"code": "rate_limit_exceeded"}}), RateLimited, False),
        (received(429, b"slow down"), RateLimited, False),
        (error(498), RateLimited, False),
        (error(529), RateLimited, False),
        (error(502), StatusError, False),
        (error(408), StatusError, False),
        (error(402), StatusError, True),
        (received(404, [{"error": {"code": 404, "message": "x", "status": "NOT_FOUND"}}]), StatusError, True),
        (received(500, b"<html>", content_type="text/html"), StatusError, False),
    ],
)
def test_a_response_becomes_this_error_final_or_not(outcome: Response, kind: type, final: bool) -> None:
    found = judged(outcome)
    assert (type(found), found.final) == (kind, final)


HERE = "Check the base URL: HTTP 200 came with {}; https://h/v1 of connection 'mine' may not be a chat completions API"
PAY = "Raise the quota or pay the bill {}, for the account behind connection 'mine'; waiting does not help"
LOOK = "Look at the answer in body, then try again: HTTP 200 came with "
SAYS = "Read what the server says, then try again later: HTTP 200 came with "
GAVE_UP = "Try again: HTTP 200 came with {}; the server at https://h/v1, or a gateway in front of it, gave up"


@pytest.mark.parametrize(
    ("outcome", "text", "code"),
    [
        (received(204, b""), HERE.replace("200", "204").format("an empty body"), None),
        (received(200, b""), GAVE_UP.format("an empty body"), None),
        (received(200, b"\n\r\n \n"), GAVE_UP.format("nothing but blank lines"), None),
        (received(200, b'{"choices": [{"message": {"content": "Hel'), GAVE_UP.format("JSON that was cut off"), None),
        (received(200, b"<html>" + PROMPT.encode()), HERE.format("text that is not JSON"), None),
        (received(200, {"object": "list"}), HERE.format("a body without choices"), None),
        (received(200, {"choices": []}), LOOK + "a body without choices", None),
        (received(200, ENDED), LOOK + "choices[0] that ended in an error", None),
        (received(200, [GOOD]), HERE.format("JSON that is not an object (a list)"), None),
        (
            received(200, {"error": {"code": "odd", "message": f"upstream: {PROMPT}"}}),
            SAYS + "an error instead of a completion: upstream: ***",
            "odd",
        ),
        (
            received(200, {**GOOD, "error": "upstream"}),
            SAYS + "an error beside a completion: upstream",
            None,
        ),
        (
            received(200, GOOD, problem="the response is larger than max_response_bytes (5)"),
            "Try again, or ask for a shorter answer: the response is larger than max_response_bytes (5)",
            None,
        ),
    ],
)
def test_a_200_without_a_completion_is_a_protocol_error_with_the_body(outcome: Response, text: str, code: Any) -> None:
    found = judged(outcome)
    assert (type(found), str(found), found.code, found.status) == (ProtocolError, text, code, outcome.status)
    assert found.body is not None


@pytest.mark.parametrize("name", ["x-request-id", "request-id", "apim-request-id", "x-ms-request-id", "cf-ray"])
def test_the_request_id_is_found_under_each_servers_name(name: str) -> None:
    reply = judge(Response(200, {name: "r", "via": "x"}, json.dumps(GOOD).encode()), Call(Settings()), now=0.0)
    assert (reply.request_id, reply.error) == ("r", None)


def test_an_error_of_more_values_than_errors_have_is_kept_as_text() -> None:
    content = b'{"error":{"message":"no","details":[' + b"{}," * 100_000 + b"{}]}}"
    found = judged(Response(500, {}, content))
    assert (found.status, found.body, str(found)) == (
        500,
        content.decode(),
        "Try again later: the server failed (HTTP 500), at https://h/v1",
    )


def test_what_had_come_before_the_connection_broke_is_in_the_reply() -> None:
    broken = TransportError("cut", status=200, body='{"choices": [', sent=True)
    reply = judge(broken, Call(Settings()), now=0.0)
    assert (reply.status, reply.body, reply.error) == (200, '{"choices": [', broken)


def test_a_date_counts_by_the_clock_of_the_driver() -> None:
    outcome = error(503, retry_after="Thu, 01 Jan 1970 00:01:30 GMT")
    found = judge(outcome, Call(Settings()), now=60.0).error
    assert found is not None
    assert found.retry_after == 30.0


def test_a_call_goes_on_where_an_earlier_driver_ended() -> None:
    steps, reply = drive([error(500), OK], Settings(max_attempts=3), begun=Begun(2, 30.0))
    assert [step.attempt for step in steps if isinstance(step, Send)] == [2, 3]
    assert (reply.error, reply.attempts) == (None, 3)
    assert reply.seconds > 30


def test_what_an_earlier_driver_spent_counts_against_the_deadline() -> None:
    steps, reply = drive([error(500, retry_after="5"), OK], Settings(deadline=60), begun=Begun(1, 56.0))
    assert steps == [Send(4.0, 1)]
    assert reply.error is not None
    assert reply.error.retry_after == 5


@pytest.mark.parametrize(
    ("code", "kind", "says"),
    [
        (429, RateLimited, "Wait, or lower the rate of requests: it is a rate limit (HTTP 200 with the error 429): No"),
        (502, StatusError, "Try again later: the server failed (HTTP 200 with the error 502), at https://h/v1: No"),
        (401, StatusError, "Check the API key (password) of connection 'mine' (HTTP 200 with the error 401): No"),
        (402, StatusError, "Add credit to the account behind connection 'mine' (HTTP 200 with the error 402): No"),
        (
            "insufficient_quota",
            StatusError,
            PAY.format("(HTTP 200 with the error insufficient_quota)") + ": No",
        ),
    ],
)
def test_an_error_in_a_200_says_what_its_status_would_and_keeps_the_real_one(code: Any, kind: type, says: str) -> None:
    found = judged(held(code))
    assert (type(found), str(found), found.status, found.code) == (kind, says, 200, code)


@pytest.mark.parametrize(
    ("outcome", "all_of_them"),
    [
        (error(401), True),
        (error(402), True),
        (error(407), True),
        (held(401), True),
        (held(402), True),
        (received(429, {"error": {"code": "insufficient_quota"}}), True),
        (received(500, {"error": "insufficient balance (1008)"}), True),
        (received(403, {"error": {"code": "insufficient_user_quota"}}), True),
        (error(403), False),
        (error(429), False),
        (held(429), False),
        (error(500), False),
        (received(429, {"error": "Request too large for m"}), False),
        (received(400, {"error": f"bad: {PROMPT}"}), False),
        (held("odd"), False),
    ],
)
def test_an_error_of_the_key_or_the_account_concerns_all_requests(outcome: Response, all_of_them: bool) -> None:
    assert concerns_all(judged(outcome), Call(Settings())) is all_of_them


def test_what_attempts_took_that_were_made_again_comes_with_the_last_reply() -> None:
    took = received(500, {"error": {"message": "No"}, "model": "m", "usage": {"total_tokens": 5}, "choices": []})
    _, reply = drive([took, error(500), took, OK], Settings(max_attempts=4))
    assert [attempt.body for attempt in reply.earlier] == [{"model": "m", "usage": {"total_tokens": 5}}] * 2
    assert [attempt.status for attempt in reply.earlier] == [500, 500]
    assert reply.attempts == 4


def test_the_last_attempt_of_a_call_that_failed_is_not_among_the_earlier_ones() -> None:
    took = received(500, {"error": {"message": "No"}, "usage": {"total_tokens": 5}})
    _, reply = drive([took, took], Settings(max_attempts=2))
    assert (len(reply.earlier), reply.body["usage"]) == (1, {"total_tokens": 5})
    _, reply = drive([took], retries=False)
    assert reply.earlier == ()
