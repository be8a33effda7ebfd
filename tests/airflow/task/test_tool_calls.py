"""Tool calls as data, and as the choice of the next task."""

import json

import pytest
from airflow.sdk import task

from airflow_chat_provider.errors import IncompleteReply, InvalidOutput, InvalidRequest
from airflow_chat_provider.operators import ChatCompletionBranchOperator
from airflow_chat_provider.testing import replies
from tests.support.asking import ask, sent, user

WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
            "required": ["city"],
        },
    },
}
TIME = {"type": "function", "function": {"name": "time"}}


def calling(*calls):
    """An answer that calls tools: (name, arguments) each."""
    listed = [
        {"id": f"call_{number}", "type": "function", "function": {"name": name, "arguments": arguments}}
        for number, (name, arguments) in enumerate(calls)
    ]
    return replies.ok(None, finish_reason="tool_calls", tool_calls=listed)


def use(**arguments):
    given = {"prompt": "Weather?", "request": {"tools": [WEATHER, TIME]}, "result_format": "tool_calls", **arguments}
    return ask(**given)


class TestAsData:
    def test_each_call_is_its_id_name_and_parsed_arguments(self, airflow, chat):
        chat.script(calling(("weather", '{"city": "Rome", "days": 2}'), ("time", "")))
        with airflow.dag():
            use()
        assert airflow.run().xcoms()["return_value"] == [
            {"id": "call_0", "name": "weather", "arguments": {"city": "Rome", "days": 2}},
            {"id": "call_1", "name": "time", "arguments": {}},
        ]

    @pytest.mark.parametrize(
        ("call", "told"),
        [
            (("whether", "{}"), "there is no tool 'whether'; the request offers weather, time"),
            (("weather", '{"city": '), "the arguments of weather are not JSON"),
            (("weather", "[1]"), "the arguments of weather are not a JSON object"),
            (("weather", '{"days": 2}'), "the arguments of weather: $: 'city' is missing"),
        ],
    )
    def test_one_that_was_made_up_is_asked_for_again_in_the_tool_s_own_answer(self, airflow, chat, call, told):
        chat.script(calling(call), calling(("weather", '{"city": "Rome"}')))
        with airflow.dag():
            use()
        assert airflow.run().xcoms()["return_value"][0]["arguments"] == {"city": "Rome"}
        said, result = sent(chat)["messages"][-2:]
        assert said["tool_calls"][0]["id"] == result["tool_call_id"] == "call_0"
        assert told in result["content"]

    def test_after_output_retries_the_task_fails(self, airflow, chat):
        chat.script(calling(("no", "{}")), calling(("no", "{}")))
        with airflow.dag():
            use()
        run = airflow.run()
        assert isinstance(airflow.error(), InvalidOutput)
        assert run.xcoms()["body"]["usage"]["total_tokens"] == 22

    def test_an_answer_in_words_is_no_call(self, airflow, chat):
        with airflow.dag():
            use()
        assert airflow.run().xcoms()["return_value"] == []

    def test_unless_a_call_was_required(self, airflow, chat):
        chat.script(replies.ok("Sunny"), calling(("time", "{}")))
        with airflow.dag():
            use(request={"tools": [TIME], "tool_choice": "required"})
        assert airflow.run().xcoms()["return_value"][0]["name"] == "time"
        assert "it calls no tool" in sent(chat)["messages"][-1]["content"]

    @pytest.mark.parametrize("calls", [[], [("weather", '{"city": ')]], ids=["before a call", "in a call"])
    def test_what_the_token_limit_cut_off_is_incomplete_and_not_asked_for_again(self, airflow, chat, calls):
        message = json.loads(calling(*calls).body)["choices"][0]["message"]
        chat.script(replies.ok(None, finish_reason="length", tool_calls=message["tool_calls"]))
        with airflow.dag():
            use(request={"tools": [WEATHER, TIME], "tool_choice": "required"})
        airflow.run()
        assert isinstance(airflow.error(), IncompleteReply)
        assert len(chat.requests) == 1

    @pytest.mark.parametrize("said", ["Failed to call a function.", "tool call validation failed: missing 'city'"])
    def test_a_call_that_the_server_could_not_use_is_asked_for_again(self, airflow, chat, said):
        failed = {"message": said, "code": "tool_use_failed", "failed_generation": "<function=weather>"}
        chat.script(replies.json_reply(400, {"error": failed}), calling(("weather", '{"city": "Rome"}')))
        with airflow.dag():
            use()
        assert airflow.run().xcoms()["return_value"][0]["arguments"] == {"city": "Rome"}
        shown, told = sent(chat)["messages"][-2:]
        assert shown == {"role": "assistant", "content": "<function=weather>"}
        assert "it is not a whole call of a tool. Call the tool again." in told["content"]

    @pytest.mark.parametrize(
        ("choice", "asks"),
        [
            ({"type": "function", "function": {"name": "time"}}, 2),
            ({"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [TIME]}}, 2),
            ({"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [TIME]}}, 1),
            ("auto", 1),
            ("none", 1),
        ],
    )
    def test_what_requires_a_call(self, airflow, chat, choice, asks):
        chat.script(replies.ok("Sunny"), calling(("time", "{}")))
        with airflow.dag():
            use(request={"tools": [TIME], "tool_choice": choice})
        assert airflow.run().state == "success"
        assert len(chat.requests) == asks

    def test_a_tool_of_the_custom_kind_takes_text_of_any_form(self, airflow, chat):
        call = {"id": "c", "type": "custom", "custom": {"name": "sql", "input": "SELECT 1"}}
        chat.script(replies.ok(None, finish_reason="tool_calls", tool_calls=[call]))
        with airflow.dag():
            use(request={"tools": [{"type": "custom", "custom": {"name": "sql"}}]})
        assert airflow.run().xcoms()["return_value"] == [{"id": "c", "name": "sql", "arguments": "SELECT 1"}]

    def test_a_function_call_of_the_older_kind_is_read_too(self, airflow, chat):
        legacy = {"name": "time", "arguments": "{}"}
        chat.script(replies.ok(None, finish_reason="function_call", function_call=legacy))
        with airflow.dag():
            use(request={"functions": [TIME["function"]]})
        assert airflow.run().xcoms()["return_value"] == [{"id": None, "name": "time", "arguments": {}}]


def branch(**arguments):
    return ChatCompletionBranchOperator(task_id="ask", prompt="A letter", **arguments)


def tasks_after(choose, *ids):
    """Tasks that leave the arguments that they were picked with."""
    for name in ids:

        @task(task_id=name)
        def follow(arguments, name=name):
            return arguments.get(name)

        choose >> follow(choose.output["arguments"])


class TestBranch:
    def test_the_model_picks_one_of_the_tasks_downstream_and_the_others_are_skipped(self, airflow, chat):
        chat.script(replies.ok('{"branch": "refund"}'))
        with airflow.dag():
            tasks_after(branch(), "refund", "forward")
        run = airflow.run()
        states = run.states()
        assert (states["refund"], states["forward"]) == ("success", "skipped")
        assert run.xcoms()["return_value"] == "refund"
        schema = sent(chat)["response_format"]["json_schema"]["schema"]
        assert schema["properties"]["branch"]["enum"] == ["forward", "refund"]

    def test_descriptions_are_told_to_the_model(self, airflow, chat):
        chat.script(replies.ok('{"branch": "refund"}'))
        with airflow.dag():
            tasks_after(branch(branches={"refund": "money back", "forward": "all else"}), "refund", "forward")
        assert airflow.run().state == "success"
        assert "- refund: money back" in sent(chat)["messages"][0]["content"]

    def test_by_a_tool_each_picked_task_finds_its_arguments(self, airflow, chat):
        amount = {"type": "object", "properties": {"amount": {"type": "number"}}, "required": ["amount"]}
        chat.script(calling(("refund", '{"amount": 7.5}'), ("forward", "{}")))
        with airflow.dag():
            choose = branch(
                choose_by="tool",
                branches={"refund": {"description": "money back", "parameters": amount}, "forward": {}, "ignore": {}},
            )
            tasks_after(choose, "refund", "forward", "ignore")
        run = airflow.run()
        assert run.states()["ignore"] == "skipped"
        assert run.xcoms("refund")["return_value"] == {"amount": 7.5}
        assert run.xcoms()["return_value"] == ["refund", "forward"]
        assert sent(chat)["tool_choice"] == "required"

    def test_an_id_that_is_not_downstream_is_asked_for_again_then_fails(self, airflow, chat):
        chat.script(replies.ok('{"branch": "burn"}'), replies.ok('{"branch": "burn"}'))
        with airflow.dag():
            tasks_after(branch(), "refund", "forward")
        run = airflow.run()
        assert isinstance(airflow.error(), InvalidOutput)
        assert len(chat.requests) == 2
        assert run.states()["refund"] == "upstream_failed"

    def test_branches_that_are_not_downstream_are_told_before_anything_is_sent(self, airflow, chat):
        with airflow.dag():
            tasks_after(branch(branches=["refund", "nowhere"]), "refund")
        airflow.run()
        assert isinstance(airflow.error(), InvalidRequest)
        assert "'nowhere' is not downstream; it can pick from: refund" in str(airflow.error())
        assert chat.requests == []

    @pytest.mark.parametrize(
        ("arguments", "path"),
        [
            ({"branches": {"a": 5}}, "branches"),
            ({"branches": {"a": {"colour": "red"}}}, "branches"),
            ({"choose_by": "dice"}, "choose_by"),
            ({"result_format": "text"}, "result_format"),
            ({"response_schema": {}}, "response_schema"),
        ],
    )
    def test_a_wrong_argument_breaks_the_import(self, airflow, arguments, path):
        with airflow.dag(), pytest.raises(InvalidRequest) as caught:
            branch(**arguments)
        assert caught.value.path == path


class TestDryRun:
    def test_it_prints_the_request_as_a_curl_command_without_the_key_and_sends_nothing(self, airflow, chat, capfd):
        with airflow.dag(params={"t": 0.5}):
            ask(prompt="It's {{ params.t }}", request={"temperature": "{{ params.t }}"}, dry_run=True)
        run = airflow.run()
        assert (run.state, set(run.xcoms()), chat.requests) == ("success", {"return_value"}, [])
        printed = "".join(capfd.readouterr())
        assert "# Not sent: model test-model, 1 message, " in printed
        assert f"curl {chat.url}/chat/completions" in printed
        assert '-H "authorization: Bearer $CHAT_API_KEY"' in printed
        assert '"temperature": 0.5' in printed
        assert "sk-test-1234567890" not in printed

    def test_it_returns_what_it_prints(self, airflow, chat, capfd):
        with airflow.dag():
            ask(prompt="Hi {{ '\\x00' }}", request={"model": "m", "n": 2}, dry_run=True)
        plan = airflow.run().xcoms()["return_value"]
        command = plan.pop("curl")
        printed = "".join(capfd.readouterr())
        assert f"# Not sent: model m, 1 message, {plan['bytes']:,} bytes\n{command}\n" in printed
        assert "sk-test-1234567890" not in command
        assert plan == {
            "dry_run": True,
            "url": f"{chat.url}/chat/completions",
            "model": "m",
            "message_count": 1,
            "bytes": plan["bytes"],
            "request": {"model": "m", "n": 2, "messages": [user("Hi \ufffd")]},
        }
        assert 60 < plan["bytes"] < 90

    def test_its_plan_is_not_taken_for_the_answer_of_multiple_outputs(self, airflow, chat):
        with airflow.dag():
            ask(prompt="Hi", result_format="json", multiple_outputs=True, dry_run=True)
        run = airflow.run()
        assert (run.state, set(run.xcoms())) == ("success", {"return_value"})

    def test_the_command_does_what_the_task_would(self, airflow, chat, capfd, tmp_path):
        import subprocess

        with airflow.dag():
            ask(prompt="It's $HOME \"quoted\" {{ 'ü' }}\nand more", dry_run=True)
        airflow.run()
        printed = "".join(capfd.readouterr())
        command = printed[printed.index("curl http") :]
        command = command[: command.index("\n}'") + 3]
        subprocess.run(["bash", "-c", command], check=True, env={"CHAT_API_KEY": "k", "PATH": "/usr/bin:/bin"})
        assert sent(chat)["messages"][0]["content"] == 'It\'s $HOME "quoted" ü\nand more'
        assert json.loads(chat.requests[0].body) == sent(chat)

    def test_the_command_shows_what_is_not_secret_and_hides_what_is(self, airflow, chat, connect, capfd):
        extra = {
            "headers": {"X-Title": "it's my pipeline", "X-Token": "canary-1", "X-Key": "abc"},
            "query": {"api-version": "2024", "sig": "canary/2", "code": "1"},
        }
        connect(chat.url, password="canary-3", extra=extra)
        with airflow.dag():
            ask(prompt="Hi", dry_run=True, request={"model": "m"})
        airflow.run()
        printed = "".join(capfd.readouterr())
        for shown in "X-Title: it'\"'\"'s my pipeline'", '"x-token: $X_TOKEN"', '"x-key: $X_KEY"':
            assert shown.lower() in printed.lower()
        assert "?api-version=2024&sig=***&code=1'" in printed
        assert "canary" not in printed

    def test_a_request_that_is_wrong_fails_as_it_would(self, airflow, chat):
        with airflow.dag(params={"t": 7}):
            ask(prompt="Hi", request={"temperature": "{{ params.t }}"}, dry_run=True)
        airflow.run()
        assert isinstance(airflow.error(), InvalidRequest)
