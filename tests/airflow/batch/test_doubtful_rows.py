"""Answers that a batch reads with a doubt: each kind is told once, and no row fails for it."""

import logging

from airflow_chat_provider.batch.output.tally import Tally
from airflow_chat_provider.core.answer.usage import Spending
from airflow_chat_provider.testing import replies

CALL = {"id": "", "type": None, "function": {"name": "f", "arguments": {"a": 1}}}
TOOLS = [{"type": "function", "function": {"name": "f"}}]


def told(caplog):
    return [
        record.getMessage() for record in caplog.records if "logged only once for this batch" in record.getMessage()
    ]


def test_a_warning_that_holds_for_each_row_is_logged_once(batch, caplog):
    batch.chat.default = replies.ok("Hi", finish_reason="brand_new_reason")
    batch.texts(40)
    with caplog.at_level(logging.WARNING):
        manifest = batch.run()
    assert (manifest["succeeded"], manifest["incomplete"]) == (40, 0)
    (warning,) = told(caplog)
    assert "(finish_reason brand_new_reason)" in warning


def test_invented_finish_reasons_do_not_fill_the_log(batch, caplog):
    reasons = iter(range(60))
    batch.chat.default = lambda _: replies.ok("Hi", finish_reason=f"reason_{next(reasons)}")
    batch.texts(60)
    with caplog.at_level(logging.WARNING):
        assert batch.run()["succeeded"] == 60
    assert len(told(caplog)) == 20


def test_empty_answers_are_results_with_a_warning(batch, caplog):
    batch.chat.default = replies.ok("")
    batch.texts(3)
    with caplog.at_level(logging.WARNING):
        assert batch.run()["succeeded"] == 3
    (warning,) = told(caplog)
    assert "the answer is empty" in warning


def test_tool_calls_are_read_as_in_a_task(batch, caplog):
    batch.chat.default = replies.ok(None, finish_reason="tool_calls", tool_calls=[CALL])
    batch.texts(3)
    with caplog.at_level(logging.WARNING):
        batch.run(request={"tools": TOOLS}, result_format="tool_calls")
    assert [line["response"][0]["arguments"] for line in batch.results] == [{"a": 1}] * 3
    (warning,) = told(caplog)
    assert "has no id" in warning
    assert "came as an object" in warning


def test_an_answer_that_was_filtered_before_it_had_a_message_is_a_failed_row(batch):
    choice = {"index": 0, "message": None, "finish_reason": "SAFETY"}
    batch.chat.default = replies.json_reply(200, replies.completion(choices=[choice]))
    batch.texts(2)
    assert batch.error(max_failures=0) is not None
    assert batch.errors[0]["error"]["class"] == "IncompleteReply"
    assert batch.errors[0]["body"]["choices"] == [choice]


def test_answers_that_were_cut_count_as_incomplete_by_any_word(batch):
    batch.chat.default = replies.ok("Hi", finish_reason="MAX_TOKENS")
    batch.texts(2)
    assert batch.run()["incomplete"] == 2
    assert all("MAX_TOKENS" in line["incomplete"] for line in batch.results)


def test_tokens_without_a_total_count_in_the_progress():
    tally = Tally(1)
    tally.success(Spending({"prompt_tokens": 3, "completion_tokens": 4}), incomplete=False)
    assert tally.progress(1.0).endswith(" 7 tokens")
