"""What the log of a task tells, whether its worker waits for the answer or its trigger."""

import asyncio

from airflow_chat_provider.durable.entry import Entry
from airflow_chat_provider.testing import replies
from airflow_chat_provider.triggers import ChatCompletionTrigger
from tests.support.asking import ask

AT_ONCE = {"retry-after-ms": "20"}


def test_a_task_tells_of_each_attempt_and_of_the_call_in_its_worker_and_in_its_trigger(airflow, chat, log):
    chat.script(replies.error(500, "oops", "server_error", headers=AT_ONCE), replies.ok())
    with airflow.dag():
        ask(prompt="canary prompt")
    assert airflow.run().state == "success"
    (attempt,) = log.lines("Attempt ")
    (call,) = log.lines("Chat completion")
    assert "Attempt 1 of 3 failed, the next one begins in 0.02 s: HTTP 500, server_error: oops" in attempt
    assert "warning" in attempt
    for part in "model test-model", "1 message,", "status 200", "2 attempts", "11 tokens":
        assert part in call
    assert "canary" not in attempt + call


def test_a_task_that_fails_tells_of_its_last_attempt(airflow, chat, log):
    chat.script(replies.error(401, "who are you?", "invalid_api_key"))
    with airflow.dag():
        ask(prompt="Hi")
    assert airflow.run().state == "failed"
    (attempt,) = log.lines("Attempt ")
    assert "Attempt 1 of 3 failed, no other one follows: HTTP 401, invalid_api_key: who are you?" in attempt


def test_the_rest_of_a_wait_that_an_earlier_triggerer_began_is_told(log, monkeypatch):
    trigger = ChatCompletionTrigger(dag_id="d", run_id="r", task_id="t")

    async def nothing(*_):
        return None

    for name in "acheck", "awrite":
        monkeypatch.setattr(type(trigger.journal), name, nothing)
    monkeypatch.setattr(type(trigger.journal), "doubt", lambda _: None)
    entry = Entry("{}", "key", "waiting", attempt=2, until=1e12)
    asyncio.run(trigger._wait(entry, 0.01))
    assert len(log.lines("Attempt 2 begins in 0.01 s: an earlier triggerer began this wait")) == 1
