"""What the error of a batch says of its failed rows."""

from __future__ import annotations

from airflow_chat_provider.batch.reasons import Reasons
from airflow_chat_provider.errors import InvalidOutput, InvalidRequest, StatusError

AGAIN = ". Another try asks only for the rows that failed or are missing"


def reasons(*errors: tuple[Exception, str]) -> Reasons:
    found = Reasons()
    for error, place in errors:
        found.note(error, place)  # type: ignore[arg-type]
    return found


def test_one_failure_is_told_with_its_place() -> None:
    error = reasons((StatusError("Ask less (HTTP 413)", status=413, final=True), "a.csv:2")).error("1 of 1", "See x", 0)
    assert error.message == "Ask less (HTTP 413) (a.csv:2). 1 of 1. See x"
    assert error.final


def test_a_place_that_the_message_names_is_not_repeated() -> None:
    error = reasons((InvalidRequest("Correct a.csv:2:5: it is odd"), "a.csv:2")).error("1 of 1", "See x", 0)
    assert error.message == "Correct a.csv:2:5: it is odd. 1 of 1. See x"


def test_the_place_in_front_of_a_message_moves_behind_it() -> None:
    error = reasons((InvalidRequest("a.csv:2: Correct it."), "a.csv:2")).error("1 of 1", "See x", 0)
    assert error.message.startswith("Correct it (a.csv:2). ")


def test_requests_that_are_wrong_in_different_ways_are_different_reasons() -> None:
    found = reasons(
        (InvalidRequest("One", keyword="json"), "a:1"),
        (InvalidRequest("Two", keyword="column"), "a:2"),
        (InvalidRequest("Three", keyword="column"), "a:3"),
    )
    assert found.error("3 of 3", "See x", 0).message.startswith("Two (a:2 and 1 more like it). ")


def test_a_retry_helps_if_enough_rows_may_fare_better() -> None:
    found = reasons((InvalidOutput("Not JSON"), "a:1"), (StatusError("No", status=400, final=True), "a:2"))
    assert found.error("2 of 2", "See x", 1).message.endswith(AGAIN)
    assert not found.error("2 of 2", "See x", 1).final
    assert found.error("2 of 2", "See x", 0).final
