"""How the operator fails: by which error, saying what, and what Airflow does next."""

import pytest

from airflow_chat_provider.airflow_api.compat import FINAL_BY_POLICY
from airflow_chat_provider.operators import ChatCompletionOperator
from airflow_chat_provider.testing import faults, replies
from tests.support.asking import ask, failing


class TestFailing:
    def test_a_model_missing_everywhere_names_both_places(self, server, connect):
        connect(server.url)
        failure = failing(ask(prompt="Hi"))
        assert failure.path == "$.model"
        assert "chat_default" in failure.message
        assert server.requests == []

    def test_a_value_that_json_cannot_hold_is_named_by_its_path(self, airflow, chat, capfd):
        with airflow.dag():
            ask(request={"messages": [{"role": "user", "content": "{{ macros.uuid.uuid4 }}"}]})
        assert airflow.run().state == "failed"
        out = capfd.readouterr()
        assert "$.messages[0].content is a function, which JSON cannot hold" in out.out + out.err

    @pytest.mark.parametrize("name", ["timeout", "deadline", "max_attempts"])
    def test_a_limit_that_a_template_makes_no_number_is_named(self, airflow, chat, name):
        with airflow.dag(params={"limit": "soon"}):
            ask(prompt="Hi", **{name: "{{ params.limit }}"})
        assert airflow.run().state == "failed"
        failure = airflow.error()
        assert failure.path == name
        assert name in failure.message
        assert chat.requests == []

    def test_a_limit_may_be_a_template(self, airflow, chat):
        chat.script(replies.status(503), replies.status(503))
        with airflow.dag(params={"n": 2}):
            ask(prompt="Hi", max_attempts="{{ params.n }}", deadline="60", timeout=5)
        assert airflow.run().state == "failed"
        assert len(chat.requests) == 2

    def test_final_errors_burn_no_retry_of_airflow(self, airflow, chat):
        chat.script(replies.error(401, "no"))
        with airflow.dag():
            ask(prompt="Hi", retries=3)
        run = airflow.run()
        assert (run.state, run.tries(), len(chat.requests)) == ("failed", 1, 1)

    @pytest.mark.skipif(not FINAL_BY_POLICY, reason="dag.test() of this Airflow does not retry")
    def test_other_errors_are_left_to_airflows_retries(self, airflow, chat):
        chat.script(replies.status(500))
        with airflow.dag():
            ask(prompt="Hi", retries=1, retry_delay=0, max_attempts=1)
        run = airflow.run()
        assert (run.state, run.tries(), len(chat.requests)) == ("success", 2, 2)

    def test_check_status_false_makes_a_refusal_data(self, airflow, chat):
        chat.script(replies.error(404, "no such model"))
        with airflow.dag():
            ask(prompt="Hi", check_status=False)
        run = airflow.run()
        assert run.state == "success"
        assert run.xcoms()["status"] == 404
        assert run.xcoms()["return_value"] == {"body": run.xcoms()["body"], "status": 404}
        assert "messages" not in run.xcoms()

    def test_check_status_false_is_no_help_without_an_answer(self, airflow, chat):
        chat.script(faults.reset())
        with airflow.dag():
            ask(prompt="Hi", check_status=False, max_attempts=1)
        assert airflow.run().state == "failed"

    @pytest.mark.parametrize(
        ("reply", "complete"),
        [
            (replies.ok("cut", finish_reason="length"), False),
            (replies.ok(None, refusal="I will not"), False),
            (replies.ok("", finish_reason="content_filter"), False),
            (replies.ok("all", finish_reason="something_new"), True),
        ],
    )
    @pytest.mark.parametrize("on_incomplete", ["fail", "warn", "ignore"])
    def test_on_incomplete_decides_about_answers_that_are_cut_or_refused(
        self, airflow, chat, reply, complete, on_incomplete
    ):
        chat.script(reply)
        with airflow.dag():
            ask(prompt="Hi", on_incomplete=on_incomplete)
        run = airflow.run()
        assert run.state == ("failed" if on_incomplete == "fail" and not complete else "success")
        assert run.xcoms()["status"] == 200

    @pytest.mark.parametrize(
        ("content", "finish_reason", "says"),
        [
            ("no json", "stop", "the answer is not JSON"),
            ('{"a": ', "length", "finish_reason length"),
        ],
    )
    def test_an_answer_that_is_not_json_fails_and_says_why(self, airflow, chat, content, finish_reason, says, capfd):
        chat.script(replies.ok(content, finish_reason=finish_reason))
        with airflow.dag():
            ask(prompt="Hi", result_format="json")
        run = airflow.run()
        out = capfd.readouterr()
        assert run.state == "failed"
        assert says in out.out + out.err
        assert run.xcoms()["body"]["choices"][0]["message"]["content"] == content

    def test_prompts_replies_and_keys_are_in_no_log(self, airflow, chat, capfd):
        canary = "canary-in-the-prompt-5417"
        chat.script(
            replies.ok("canary-in-the-reply-90210"),
            replies.error(400, f"bad text: {canary} for key sk-test-1234567890"),
        )
        with airflow.dag(params={"text": canary}):
            first = ask(prompt="{{ params.text }}", result_format="text")
            first >> ChatCompletionOperator(task_id="next", prompt="{{ params.text }}")
        airflow.run()
        out = capfd.readouterr()
        text = out.out + out.err
        assert "Chat completion: model test-model" in text
        for secret in (canary, "canary-in-the-reply", "sk-test-1234567890"):
            assert secret not in text


class TestConnectionErrors:
    def test_a_connection_id_that_is_no_text_is_named(self, chat):
        assert failing(ask(prompt="Hi", chat_conn_id="{{ 5 }}")).path == "chat_conn_id"

    def test_an_unknown_connection_is_named(self, airflow, capfd):
        with airflow.dag():
            ask(prompt="Hi", chat_conn_id="nobody")
        assert airflow.run().state == "failed"
        out = capfd.readouterr()
        assert "Create connection 'nobody'" in out.out + out.err

    def test_the_connection_may_be_a_template(self, airflow, server, connect):
        connect(server.url, conn_id="chosen", extra={"model": "m"})
        with airflow.dag(params={"conn": "chosen"}):
            ask(prompt="Hi", chat_conn_id="{{ params.conn }}")
        assert airflow.run().state == "success"
