"""Branches by tools where the model reasons: what OpenAI wants of such a request beside the tools."""

import pytest

from airflow_chat_provider.decorators import chat_completion_branch
from airflow_chat_provider.testing import replies
from tests.airflow.task.test_branches import choose, leaf, told
from tests.support.asking import sent
from tests.support.calling import Log


class TestReasoningModels:
    """OpenAI's newer models take function tools only without reasoning, and reason if they are not told otherwise."""

    SAID = '$.reasoning_effort is set to "none"'

    @pytest.fixture
    def openai(self, server, connect):
        """The server in the place of OpenAI's, reached as a proxy."""
        connect("http://api.openai.com/v1", extra={"proxy": server.url.removesuffix("/v1")})
        server.default = replies.tool_calls([("a", {})])
        return server

    @pytest.fixture
    def log(self, capsys, caplog):
        return Log(capsys, caplog)

    @pytest.mark.parametrize("model", ["gpt-5.6-luna", "gpt-6-astra"])
    def test_a_branch_by_tools_tells_such_a_model_not_to_reason_and_says_so(self, airflow, openai, log, model):
        with airflow.dag():
            choose(choose_by="tool", model=model) >> [leaf("a"), leaf("b")]
        assert airflow.run().states()["b"] == "skipped"
        assert (sent(openai)["reasoning_effort"], sent(openai)["tool_choice"]) == ("none", "required")
        assert log.text.count(self.SAID) == 1

    def test_a_decorated_branch_by_tools_tells_such_a_model_not_to_reason(self, airflow, openai, log):
        with airflow.dag():

            @chat_completion_branch(choose_by="tool", model="gpt-5.6", task_id="ask")
            def ask():
                return "Which?"

            ask() >> [leaf("a"), leaf("b")]
        assert airflow.run().state == "success"
        assert sent(openai)["reasoning_effort"] == "none"
        assert log.text.count(self.SAID) == 1

    def test_an_answer_that_does_not_fit_is_asked_for_again_without_reasoning_too(self, airflow, openai):
        openai.script(replies.tool_calls([("c", {})]))
        with airflow.dag():
            choose(choose_by="tool", model="gpt-5.6") >> [leaf("a"), leaf("b")]
        assert airflow.run().state == "success"
        assert [sent(openai, index)["reasoning_effort"] for index in (0, 1)] == ["none", "none"]

    def test_an_effort_that_the_user_has_set_is_sent_and_warned_of(self, airflow, openai, log):
        request = {"model": "gpt-5.6", "reasoning_effort": "low"}
        with airflow.dag():
            choose(choose_by="tool", request=request) >> [leaf("a"), leaf("b")]
        airflow.run()
        assert sent(openai)["reasoning_effort"] == "low"
        assert "$.reasoning_effort is set together with function tools, which this model refuses" in log.text

    @pytest.mark.parametrize(("model", "how"), [("gpt-5.4", "tool"), ("gpt-4o", "tool"), ("gpt-5.6", "enum")])
    def test_no_other_model_and_no_other_choice_is_told_so(self, airflow, openai, model, how):
        if how == "enum":
            told(openai, "a")
        with airflow.dag():
            choose(choose_by=how, model=model) >> [leaf("a"), leaf("b")]
        assert airflow.run().state == "success"
        assert "reasoning_effort" not in sent(openai)

    def test_no_other_server_is_told_so(self, airflow, chat):
        chat.default = replies.tool_calls([("a", {})])
        with airflow.dag():
            choose(choose_by="tool", model="gpt-5.6") >> [leaf("a"), leaf("b")]
        assert airflow.run().state == "success"
        assert "reasoning_effort" not in sent(chat)
