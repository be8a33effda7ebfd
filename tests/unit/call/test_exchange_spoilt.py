"""What an exchange makes of an error that blames one answer of the model."""

from __future__ import annotations

import pytest

from airflow_chat_provider.core.errors import StatusError
from tests.unit.call.test_exchange import OK, drive, received


@pytest.mark.parametrize(
    ("said", "todo"),
    [("", "Ask again"), (" max completion tokens reached before generating a valid document", "Raise the token limit")],
)
def test_a_spoilt_generation_says_so_is_not_final_and_is_not_asked_for_again_here(said: str, todo: str) -> None:
    body = {"error": {"message": f"Failed to generate JSON.{said}", "code": "json_validate_failed"}}
    steps, reply = drive([received(400, body), OK])
    assert len(steps) == 1
    assert isinstance(reply.error, StatusError)
    assert reply.error.final is False
    assert str(reply.error).startswith(todo)
    assert "(HTTP 400, json_validate_failed): Failed to generate JSON." in str(reply.error)


def test_a_server_that_failed_is_asked_again_whatever_it_says_of_the_answer() -> None:
    body = {"error": {"message": "Failed to parse tool call arguments as JSON", "code": 500}}
    steps, reply = drive([received(500, body), OK])
    assert len(steps) == 3
    assert reply.error is None
