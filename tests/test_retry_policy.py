"""The retry policy: what Airflow is told to do after an error."""

from datetime import timedelta
from typing import Any

import pytest
from airflow.sdk import DAG, TaskGroup

from airflow_chat_provider.decorators import chat_completion
from airflow_chat_provider.errors import InvalidRequest, RateLimited, StatusError, TransportError
from airflow_chat_provider.operators import (
    ChatCompletionBatchOperator,
    ChatCompletionBranchOperator,
    ChatCompletionOperator,
)
from airflow_chat_provider.retry_policy import FINAL_BY_POLICY, ChatCompletionRetryPolicy
from airflow_chat_provider.testing import replies
from tests.running import Airflow

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


THEIRS = ChatCompletionRetryPolicy(max_delay=7)


def plain():
    return ChatCompletionOperator(task_id="ask", prompt="Hi")


def batch():
    return ChatCompletionBatchOperator(task_id="ask", input=[], output="/tmp/x", prompt="Hi")


def branch():
    return ChatCompletionBranchOperator(task_id="ask", prompt="Hi")


def mapped():
    return ChatCompletionOperator.partial(task_id="ask").expand(prompt=["Hi"])


def mapped_batch():
    return ChatCompletionBatchOperator.partial(task_id="ask", input=[], prompt="Hi").expand(output=["/tmp/x"])


@chat_completion
def question(text="Hi"):
    return text


def decorated():
    return question.override(task_id="ask")().operator


def mapped_decorated():
    return question.override(task_id="ask").expand(text=["Hi"]).operator


KINDS = [plain, batch, branch, mapped, mapped_batch, decorated, mapped_decorated]


def policy(operator: Any) -> Any:
    """That of the task that runs, which for a mapped one is made in the worker."""
    if not hasattr(operator, "unmap"):
        return operator.retry_policy
    value = {"prompt": "Hi"} if operator.task_type == "ChatCompletionOperator" else {"output": "/tmp/x"}
    return operator.unmap({"op_kwargs": {"text": "Hi"}} if operator.task_type == "_Asked" else value).retry_policy


@pytest.mark.parametrize("kind", KINDS)
class TestWhose:
    def test_a_task_has_ours_by_default(self, kind):
        with DAG("d", schedule=None):
            assert policy(kind()).max_delay == 3600

    def test_the_one_of_its_dag_s_default_args_counts(self, kind):
        with DAG("d", schedule=None, default_args={"retry_policy": THEIRS}):
            assert policy(kind()).max_delay == 7

    def test_the_one_of_its_task_group_s_default_args_counts_more(self, kind):
        others = {"retry_policy": ChatCompletionRetryPolicy()}
        with DAG("d", schedule=None, default_args=others), TaskGroup("g", default_args={"retry_policy": THEIRS}):
            assert policy(kind()).max_delay == 7

    def test_none_in_default_args_is_none_given(self, kind):
        with DAG("d", schedule=None, default_args={"retry_policy": None}):
            assert policy(kind()).max_delay == 3600


@pytest.mark.parametrize(
    "made",
    [
        lambda **given: ChatCompletionOperator(task_id="ask", prompt="Hi", **given),
        lambda **given: ChatCompletionOperator.partial(task_id="ask", **given).expand(prompt=["Hi"]),
        lambda **given: question.override(task_id="ask", **given)().operator,
        lambda **given: question.override(task_id="ask", **given).expand(text=["Hi"]).operator,
    ],
    ids=["plain", "mapped", "decorated", "mapped and decorated"],
)
def test_the_task_s_own_counts_more_than_any_default(made):
    for given in ({"retry_policy": THEIRS}, {"default_args": {"retry_policy": THEIRS}}):
        with DAG("d", schedule=None, default_args={"retry_policy": ChatCompletionRetryPolicy()}):
            assert policy(made(**given)).max_delay == 7


class Stubborn(ChatCompletionRetryPolicy):
    """Retries where ours would not."""

    def evaluate(self, exception: BaseException, *arguments: Any, **more: Any) -> Any:
        from airflow.sdk.definitions.retry_policy import RetryDecision

        return RetryDecision.retry(timedelta(0))


@pytest.mark.parametrize("kind", [plain, mapped, decorated, mapped_decorated])
def test_airflow_asks_the_policy_of_the_default_args(run_dag, chat, kind):
    airflow = Airflow(run_dag)
    chat.script(replies.error(401, "no such key"))
    with airflow.dag(default_args={"retry_policy": Stubborn(), "retries": 1, "retry_delay": 0}):
        kind()
    assert airflow.run().state == "success"
    assert len(chat.requests) == 2


def test_a_mapped_value_that_is_wrong_burns_no_retry(run_dag, chat):
    airflow = Airflow(run_dag)
    with airflow.dag():
        ChatCompletionOperator.partial(task_id="ask", retries=2, retry_delay=0, prompt="Hi").expand(
            result_format=["nonsense"]
        )
    run = airflow.run()
    assert (run.state, run.tries(), chat.requests) == ("failed", 1, [])
