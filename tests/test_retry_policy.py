"""The retry policy: what Airflow is told to do after an error."""

from datetime import timedelta

import pytest

from airflow_chat_provider.errors import InvalidRequest, RateLimited, StatusError, TransportError
from airflow_chat_provider.retry_policy import FINAL_BY_POLICY, ChatCompletionRetryPolicy

pytestmark = pytest.mark.skipif(not FINAL_BY_POLICY, reason="this Airflow has no retry policies")


def decide(error, **arguments):
    return ChatCompletionRetryPolicy(**arguments).evaluate(error, try_number=1, max_tries=3)


@pytest.mark.parametrize("error", [InvalidRequest("x", path="$"), StatusError("x", status=401, final=True)])
def test_a_final_error_fails_the_task_at_once(error):
    assert decide(error).action.value == "fail"


def test_the_wait_that_the_server_asked_for_is_the_delay_of_the_retry():
    decision = decide(RateLimited("x", status=429, retry_after=900))
    assert (decision.action.value, decision.retry_delay) == ("retry", timedelta(seconds=900))
    assert "900 s" in decision.reason


def test_a_wait_is_capped():
    assert decide(RateLimited("x", retry_after=90_000), max_delay=60).retry_delay == timedelta(seconds=60)


@pytest.mark.parametrize("error", [TransportError("x", sent=True), StatusError("x", status=500), RuntimeError("x")])
def test_everything_else_is_left_to_the_task_s_own_settings(error):
    assert decide(error).action.value == "default"


def test_it_survives_serialization():
    policy = ChatCompletionRetryPolicy(max_delay=7)
    assert ChatCompletionRetryPolicy.deserialize(policy.serialize()).max_delay == 7
