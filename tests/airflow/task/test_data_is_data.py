"""Only what the author of a DAG wrote is a template. What an upstream task gave is sent as it came."""

from typing import Any

import pytest
from airflow.sdk import task, task_group

from airflow_chat_provider.decorators import chat_completion_branch
from airflow_chat_provider.operators import ChatCompletionBatchOperator, ChatCompletionOperator
from airflow_chat_provider.testing import replies
from tests.support.asking import user

pytestmark = pytest.mark.templates

EVIL = "{{ var.value.SECRET }} {% if %}"


@pytest.fixture(autouse=True)
def secret(monkeypatch):
    monkeypatch.setenv("AIRFLOW_VAR_SECRET", "the-secret")


@task
def evil():
    return EVIL


@task
def evils():
    return [EVIL, f"b {EVIL}"]


@task
def row():
    return {"prompt": EVIL}


@task
def rows():
    return [{"prompt": EVIL}, {"prompt": f"b {EVIL}"}]


def contents(chat):
    """Every text that the server got, sorted."""
    return sorted(message["content"] for request in chat.requests for message in request.json["messages"])


class TestExpand:
    def test_values_of_an_upstream_task(self, airflow, chat):
        with airflow.dag():
            ChatCompletionOperator.partial(task_id="ask", system_prompt="{{ 1 }}").expand(prompt=evils())
        assert airflow.run().state == "success"
        assert contents(chat) == sorted(["1", "1", EVIL, f"b {EVIL}"])

    def test_nested_lists_and_dicts(self, airflow, chat):
        with airflow.dag():

            @task
            def requests():
                return [{"messages": [user(EVIL)], "metadata": {"a": EVIL}}]

            @task
            def conversations():
                return [[user(EVIL)]]

            ChatCompletionOperator.partial(task_id="whole", prompt="{{ 2 }}").expand(request=requests())
            ChatCompletionOperator.partial(task_id="listed", prompt="{{ 3 }}").expand(messages=conversations())
        assert airflow.run().state == "success"
        assert contents(chat) == sorted([EVIL, "2", EVIL, "3"])
        assert {"a": EVIL} in [request.json.get("metadata") for request in chat.requests]

    def test_a_list_of_the_author_may_mix_templates_and_upstream_values(self, airflow, chat):
        with airflow.dag():
            given = evil()
            ChatCompletionOperator.partial(task_id="ask").expand(
                prompt=[given, "{{ 1 }}", EVIL.replace("{% if %}", "")],
                request=[{"messages": [user(given), user("{{ 2 }}")]}],
            )
        assert airflow.run().state == "success"
        assert contents(chat) == sorted([EVIL, "2"] * 3 + [EVIL, "1", "the-secret "])

    def test_mapped_zipped_and_concatenated_values(self, airflow, chat):
        with airflow.dag():
            texts = evils()
            ChatCompletionOperator.partial(task_id="map").expand(prompt=texts.map(lambda text: f"map {text}"))
            ChatCompletionOperator.partial(task_id="concat").expand(prompt=texts.concat(texts))
            ChatCompletionOperator.partial(task_id="zip").expand(
                messages=texts.zip(texts).map(lambda pair: [user(text) for text in pair])
            )
        assert airflow.run().state == "success"
        a, b = EVIL, f"b {EVIL}"
        assert contents(chat) == sorted([f"map {a}", f"map {b}", a, b, a, b, a, a, b, b])

    def test_a_dict_is_mapped_over_in_pairs(self, airflow, chat):
        with airflow.dag():

            @task
            def pairs():
                return {"one": EVIL}

            @task
            def told(pair):
                return [user(text) for text in pair]

            given = told.expand(pair=pairs())
            ChatCompletionOperator.partial(task_id="ask").expand(messages=given)

            class Pairs(ChatCompletionOperator):
                def __init__(self, *, pair, **arguments):
                    super().__init__(messages=[user(text) for text in pair], **arguments)

            Pairs.partial(task_id="upstream").expand(pair=pairs())
            Pairs.partial(task_id="literal").expand(pair={"{{ 1 }}": "{{ 2 }}"})
        assert airflow.run().state == "success"
        assert contents(chat) == sorted(["one", EVIL] * 2 + ["1", "2"])

    def test_what_a_task_mapped_by_literals_does_not_map_stays_a_template(self, airflow, chat):
        with airflow.dag(default_args={"system_prompt": "{{ 1 }}", "deferrable": airflow.deferrable}):
            ChatCompletionOperator.partial(task_id="ask", model="{{ 'm' }}").expand(prompt=["{{ 2 }}"])
        assert airflow.run().state == "success"
        assert contents(chat) == ["1", "2"]
        assert chat.requests[0].json["model"] == "m"


class TestExpandKwargs:
    @pytest.mark.parametrize("strict", [True, False])
    def test_rows_of_an_upstream_task(self, airflow, chat, strict):
        with airflow.dag(default_args={"system_prompt": "{{ 1 }}", "deferrable": airflow.deferrable}):
            ChatCompletionOperator.partial(task_id="ask", model="{{ 'm' }}").expand_kwargs(rows(), strict=strict)
        assert airflow.run().state == "success"
        assert contents(chat) == sorted(["1", "1", EVIL, f"b {EVIL}"])
        assert {request.json["model"] for request in chat.requests} == {"m"}

    def test_rows_that_replace_what_partial_has(self, airflow, chat):
        with airflow.dag():
            ChatCompletionOperator.partial(task_id="ask", prompt="{{ 1 }}").expand_kwargs(rows(), strict=False)
        assert airflow.run().state == "success"
        assert contents(chat) == sorted([EVIL, f"b {EVIL}"])

    def test_rows_that_bring_defaults(self, airflow, chat):
        with airflow.dag():

            @task
            def defaults():
                return [{"default_args": {"prompt": EVIL}}]

            ChatCompletionOperator.partial(task_id="ask", system_prompt="{{ 1 }}").expand_kwargs(defaults())
        assert airflow.run().state == "success"
        assert contents(chat) == sorted(["1", EVIL])

    def test_nested_lists_and_dicts(self, airflow, chat):
        with airflow.dag():

            @task
            def nested():
                return [{"request": {"messages": [user(EVIL)], "metadata": {"a": EVIL}}}, {"messages": [user(EVIL)]}]

            ChatCompletionOperator.partial(task_id="ask", prompt="{{ 1 }}").expand_kwargs(nested())
        assert airflow.run().state == "success"
        assert contents(chat) == sorted(["1", "1", EVIL, EVIL])
        assert {"a": EVIL} in [request.json.get("metadata") for request in chat.requests]

    def test_a_list_of_the_author_may_mix_templates_rows_and_values(self, airflow, chat):
        with airflow.dag():
            ChatCompletionOperator.partial(task_id="ask").expand_kwargs(
                [
                    row(),
                    {"prompt": "{{ 1 }}", "system_prompt": evil()},
                    {"messages": [user("{{ 2 }}"), user(evil.override(task_id="other")())]},
                ]
            )
        assert airflow.run().state == "success"
        assert contents(chat) == sorted([EVIL, "1", EVIL, "2", EVIL])

    def test_a_row_that_says_what_the_author_says_elsewhere(self, airflow, chat):
        with airflow.dag():

            @task
            def same():
                return {"prompt": "{{ var.value.SECRET }}"}

            ChatCompletionOperator.partial(task_id="ask").expand_kwargs([{"prompt": "{{ var.value.SECRET }}"}, same()])
        assert airflow.run().state == "success"
        assert contents(chat) == sorted(["the-secret", "{{ var.value.SECRET }}"])

    def test_mapped_rows(self, airflow, chat):
        with airflow.dag():
            ChatCompletionOperator.partial(task_id="ask").expand_kwargs(
                evils().map(lambda text: {"prompt": text, "messages": [user(text)]})
            )
        assert airflow.run().state == "success"
        assert contents(chat) == sorted([EVIL, EVIL, f"b {EVIL}", f"b {EVIL}"])


class TestGroups:
    def test_a_mapped_task_group(self, airflow, chat):
        with airflow.dag():

            @task_group
            def group(text):
                ChatCompletionOperator(task_id="ask", prompt=text, system_prompt="{{ 1 }}")
                ChatCompletionOperator(task_id="nested", messages=[user(text), user("{{ 2 }}")])

                @task.chat_completion
                def told(said):
                    return said

                told(text)

            group.expand(text=evils())
        assert airflow.run().state == "success"
        assert contents(chat) == sorted([EVIL, f"b {EVIL}"] * 3 + ["1", "1", "2", "2"])

    def test_a_task_group_that_is_mapped_over_rows(self, airflow, chat):
        with airflow.dag():

            @task_group
            def group(prompt):
                ChatCompletionOperator(task_id="ask", prompt=prompt)

            group.expand_kwargs(rows())
        assert airflow.run().state == "success"
        assert contents(chat) == sorted([EVIL, f"b {EVIL}"])


class TestFunctions:
    def test_arguments_of_a_decorated_function(self, airflow, chat):
        with airflow.dag():

            @task.chat_completion
            def ask(text, more="", nested=None):
                return " ".join([text, more, *(nested or [])])

            given = evils()
            ask.partial(more="{{ 1 }}").expand(text=given)
            ask.partial(more="{{ 2 }}").expand_kwargs(
                given.map(lambda text: {"text": text, "nested": [text]}),
            )
            ask.expand_kwargs([{"text": "{{ 3 }}", "nested": ["{{ 4 }}", evil()]}])
            ask(evil(), more="{{ 5 }}")
        assert airflow.run().state == "success"
        a, b = EVIL, f"b {EVIL}"
        assert contents(chat) == sorted([f"{a} 1", f"{b} 1", f"{a} 2 {a}", f"{b} 2 {b}", f"3  4 {EVIL}", f"{EVIL} 5"])

    def test_an_argument_that_is_of_default_args_is_a_template(self, airflow, chat):
        with airflow.dag(default_args={"more": "{{ 1 }}", "deferrable": airflow.deferrable}):

            @task.chat_completion
            def ask(prompt, more):
                return f"{prompt} {more}"

            ask.expand_kwargs(rows())
        assert airflow.run().state == "success"
        assert contents(chat) == sorted([f"{EVIL} 1", f"b {EVIL} 1"])

    def test_arguments_of_a_decorated_branch(self, airflow, chat):
        chat.default = replies.ok('{"branch": "yes"}')
        with airflow.dag():

            @chat_completion_branch(branches=["yes"])
            def ask(prompt, more):
                return f"{prompt} {more}"

            @task(trigger_rule="none_failed")
            def yes():
                return 1

            ask.partial(more="{{ 1 }}").expand_kwargs(rows()) >> yes()
        assert airflow.run().state == "success"
        assert sorted(request.json["messages"][-1]["content"] for request in chat.requests) == sorted(
            [f"{EVIL} 1", f"b {EVIL} 1"]
        )


class Texts(ChatCompletionOperator):
    """Makes its prompt of an argument of its own."""

    template_fields = (*ChatCompletionOperator.template_fields, "text", "remark")

    def __init__(self, *, text, remark="", **arguments):
        self.text = text
        self.remark = remark
        super().__init__(prompt=f"{{{{ 1 }}}} {text}", system_prompt="{{ task.text }} {{ 2 }}", **arguments)

    def execute(self, context):
        self.messages = [user(self.text), user(self.remark)]
        return super().execute(context)


class TestSubclasses:
    """Where data may be in a field, nothing of it is rendered; what the class writes itself is a template."""

    @pytest.mark.parametrize("how", ["expand", "expand_kwargs"])
    def test_a_class_that_makes_its_prompt_of_upstream_values(self, airflow, chat, how, caplog):
        with airflow.dag():
            mapped = Texts.partial(task_id="ask", remark="{{ 3 }}")
            if how == "expand":
                mapped.expand(text=evils())
            else:
                mapped.expand_kwargs(evils().map(lambda text: {"text": text}))
        assert airflow.run().state == "success"
        assert contents(chat) == sorted(
            text for given in (EVIL, f"b {EVIL}") for text in (f"{{{{ 1 }}}} {given}", f"{given} 2", given, "3")
        )
        assert "Keep the data in an attribute of the task" in caplog.text
        assert "the-secret" not in caplog.text

    def test_a_class_that_makes_its_prompt_of_what_the_author_wrote(self, airflow, chat):
        with airflow.dag():
            Texts.partial(task_id="mapped").expand(text=["{{ 3 }}"])
            Texts(task_id="alone", text="3")
        assert airflow.run().state == "success"
        assert contents(chat) == sorted(["1 3", "3 2", "3", ""] * 2)

    def test_a_class_that_takes_no_other_data(self, airflow, chat):
        class Picky(ChatCompletionOperator):
            def __init__(self, *, kind, **arguments):
                texts = {EVIL: f"{{{{ 1 }}}} {EVIL}", f"b {EVIL}": "b"}
                super().__init__(prompt=texts[kind], **arguments)

        with airflow.dag():
            Picky.partial(task_id="ask", system_prompt="{{ 2 }}").expand(kind=evils())
        assert airflow.run().state == "success"
        assert contents(chat) == sorted(["2", "2", f"{{{{ 1 }}}} {EVIL}", "b"])


def test_a_batch_maps_over_what_upstream_tasks_give(airflow, chat, tmp_path):
    given: Any = {"input": [{"text": "x"}], "result_format": "text"}
    with airflow.dag(default_args={}):
        ChatCompletionBatchOperator.partial(
            task_id="one", output=f"{tmp_path}/{{{{ ti.map_index }}}}", system_prompt="{{ row.text }}", **given
        ).expand(prompt=evils())
        ChatCompletionBatchOperator.partial(task_id="two", system_prompt="{{ row.text }}", **given).expand_kwargs(
            evils().map(lambda text: {"messages": [user(text)], "output": f"{tmp_path}/{len(text)}-{{{{ 1 }}}}"})
        )
        ChatCompletionBatchOperator(
            task_id="three", messages=[user(evil()), user("{{ row.text }}")], output=f"{tmp_path}/three", **given
        )
    assert airflow.run().state == "success"
    assert contents(chat) == sorted([EVIL, f"b {EVIL}", "x", "x"] * 2 + [EVIL, "x"])
    assert len(list(tmp_path.glob("*{{ 1 }}"))) == 2
