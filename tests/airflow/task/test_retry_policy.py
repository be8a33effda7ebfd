"""The retry policy: what Airflow is told to do after an error."""

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk import DAG, TaskGroup, task

from airflow_chat_provider.airflow_api.compat import FINAL_BY_POLICY, RESCHEDULES
from airflow_chat_provider.decorators import chat_completion
from airflow_chat_provider.errors import InvalidRequest, RateLimited, StatusError, TransportError
from airflow_chat_provider.operators import (
    ChatCompletionBatchOperator,
    ChatCompletionBranchOperator,
    ChatCompletionOperator,
)
from airflow_chat_provider.retry_policy import ChatCompletionRetryPolicy
from airflow_chat_provider.testing import replies
from tests.support.running import Airflow

ChainRetryPolicy: Any
try:
    from airflow.providers.common.compat.sdk import ChainRetryPolicy
except ImportError:  # an older one, or none
    ChainRetryPolicy = None

pytestmark = pytest.mark.skipif(not FINAL_BY_POLICY, reason="this Airflow has no retry policies")
reschedules = pytest.mark.skipif(not RESCHEDULES, reason="a policy can reschedule a task from Airflow 3.4 on")


def decide(error, context=None, **arguments):
    return ChatCompletionRetryPolicy(**arguments).evaluate(error, try_number=1, max_tries=3, context=context)


@pytest.mark.parametrize("error", [InvalidRequest("x", path="$"), StatusError("x", status=401, final=True)])
def test_a_final_error_fails_the_task_at_once(error):
    assert decide(error).action.value == "fail"


@pytest.mark.parametrize("error", [RateLimited("x", status=429, retry_after=900), StatusError("x", retry_after=900)])
def test_the_wait_that_the_server_asked_for_is_the_delay_of_the_next_try(error):
    decision = decide(error)
    assert decision.action.value in ("retry", "reschedule")
    assert decision.retry_delay == timedelta(seconds=900)
    assert "900 s" in decision.reason


def test_a_wait_is_capped():
    assert decide(RateLimited("x", retry_after=90_000), max_delay=60).retry_delay == timedelta(seconds=60)


@pytest.mark.parametrize(
    "error",
    [TransportError("x", sent=True), StatusError("x", status=500), RateLimited("x", status=503), RuntimeError("x")],
)
def test_everything_else_is_left_to_the_task_s_own_settings(error):
    assert decide(error).action.value == "default"


def test_the_policy_survives_serialization():
    policy = ChatCompletionRetryPolicy(max_delay=7, reschedule_timeout=8)
    assert vars(ChatCompletionRetryPolicy.deserialize(policy.serialize())) == vars(policy)


def rescheduled(times, seconds_ago=0.0):
    """The context of a try that was rescheduled so often, the first time so long ago."""
    first = datetime.now(tz=UTC) - timedelta(seconds=seconds_ago)
    ti = SimpleNamespace(get_first_reschedule_date=lambda context: first)
    return {"task_reschedule_count": times, "ti": ti}


@reschedules
class TestReschedules:
    @pytest.mark.parametrize("status", [429, 503, 529, 200])  # 200: the limit is told in the body
    def test_a_rate_limit_or_an_overload_with_a_wait_uses_no_retry(self, status):
        decision = decide(RateLimited("x", status=status, retry_after=900))
        assert (decision.action.value, decision.reschedule_timeout) == ("reschedule", timedelta(days=1))

    def test_another_error_with_a_wait_uses_a_retry(self):
        assert decide(StatusError("x", status=500, retry_after=900)).action.value == "retry"

    def test_a_server_that_is_full_for_long_is_asked_less_and_less_often(self):
        error = RateLimited("x", status=429, retry_after=3)
        delays = [decide(error, context=rescheduled(times)).retry_delay.total_seconds() for times in (0, 1, 2, 5, 99)]
        assert delays == [3, 3, 4, 32, 300]

    def test_no_wait_is_longer_than_max_delay(self):
        error = RateLimited("x", status=429, retry_after=3)
        policy = ChatCompletionRetryPolicy(max_delay=60)
        assert policy.evaluate(error, 1, 3, rescheduled(99)).retry_delay == timedelta(seconds=60)

    def test_once_reschedule_timeout_is_over_it_uses_a_retry_when_the_server_said(self):
        error = RateLimited("x", status=429, retry_after=900)
        policy = ChatCompletionRetryPolicy(reschedule_timeout=100)
        assert policy.evaluate(error, 1, 3, rescheduled(1, seconds_ago=90)).action.value == "reschedule"
        decision = policy.evaluate(error, 1, 3, rescheduled(1, seconds_ago=110))
        assert (decision.action.value, decision.retry_delay) == ("retry", timedelta(seconds=900))

    def test_with_no_reschedule_timeout_it_always_uses_a_retry(self):
        assert decide(RateLimited("x", retry_after=9), reschedule_timeout=0).action.value == "retry"


@pytest.mark.skipif(ChainRetryPolicy is None, reason="this Airflow and its common-compat have no ChainRetryPolicy")
def test_in_a_chain_ours_decides_first_and_leaves_the_rest_to_the_next():
    from airflow.sdk.definitions.retry_policy import ExceptionRetryPolicy, RetryAction, RetryRule

    rule = RetryRule(exception=RuntimeError, action=RetryAction.FAIL)
    chain = ChainRetryPolicy([ChatCompletionRetryPolicy(), ExceptionRetryPolicy(rules=[rule])])

    def action(error):
        return chain.evaluate(error, 1, 3).action.value

    assert action(StatusError("x", status=401, final=True)) == "fail"
    assert action(RateLimited("x", status=429, retry_after=9)) == ("reschedule" if RESCHEDULES else "retry")
    assert action(RuntimeError("x")) == "fail"
    assert action(StatusError("x", status=500)) == "default"


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
def _question(text="Hi"):
    return text


question: Any = _question


def decorated():
    return question.override(task_id="ask")().operator


def mapped_decorated():
    return question.override(task_id="ask").expand(text=["Hi"]).operator


KINDS = [plain, batch, branch, mapped, mapped_batch, decorated, mapped_decorated]


def policy(operator: Any) -> Any:
    """That of the task that runs, which for a mapped one is made in the worker."""
    if not hasattr(operator, "unmap"):
        return operator.retry_policy
    expanded = {
        "ChatCompletionOperator": {"prompt": "Hi"},
        "ChatCompletionBatchOperator": {"output": "/tmp/x"},
        "ChatCompletionDecoratedOperator": {"op_kwargs": {"text": "Hi"}},
    }
    return operator.unmap(expanded.get(operator.task_type, {})).retry_policy


@pytest.mark.parametrize("kind", KINDS)
class TestWhose:
    def test_a_task_has_ours_by_default(self, kind):
        with DAG("d", schedule=None):
            assert policy(kind()).max_delay == 3600

    def test_the_one_of_its_dag_s_default_args_counts(self, kind):
        with DAG("d", schedule=None, default_args={"retry_policy": THEIRS}):
            assert policy(kind()).max_delay == 7

    def test_the_one_of_its_task_group_s_default_args_counts_more(self, kind):
        others, theirs = ({"retry_policy": policy} for policy in (ChatCompletionRetryPolicy(), THEIRS))
        with DAG("d", schedule=None, default_args=others), TaskGroup("g", default_args=theirs):  # type: ignore[arg-type]
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


@reschedules
def test_a_server_that_is_full_for_ever_does_not_hold_a_task_for_ever(run_dag, chat):
    airflow = Airflow(run_dag)
    chat.default = replies.rate_limited(retry_after=0.1)
    with airflow.dag():
        ChatCompletionOperator(
            task_id="ask", prompt="Hi", max_attempts=1, retry_policy=ChatCompletionRetryPolicy(reschedule_timeout=1)
        )
    run = airflow.run()
    assert (run.state, run.tries()) == ("failed", 1)
    assert len(chat.requests) >= 2


def test_a_mapped_value_that_is_wrong_burns_no_retry(run_dag, chat):
    airflow = Airflow(run_dag)
    with airflow.dag():
        formats = task(task_id="formats")(lambda: ["nonsense"])()
        partial = ChatCompletionOperator.partial(task_id="ask", retries=2, retry_delay=0, prompt="Hi")
        partial.expand(result_format=formats)
    run = airflow.run()
    assert (run.state, run.tries(), chat.requests) == ("failed", 1, [])
