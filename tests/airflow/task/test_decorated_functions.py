"""TaskFlow: what kinds of functions may stand under the decorators, and what they may return."""

from __future__ import annotations

import asyncio
import dataclasses
import functools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypedDict

import pytest
from airflow.sdk import DAG, task
from pydantic import BaseModel

from airflow_chat_provider.decorators import chat_completion, chat_completion_branch
from airflow_chat_provider.errors import InvalidRequest
from airflow_chat_provider.testing import replies
from tests.support.asking import ask, sent

pytestmark = pytest.mark.templates

if TYPE_CHECKING:
    from nowhere import Request  # type: ignore[import-not-found]

MESSAGES = [{"role": "user", "content": "Hi"}]
PARTS = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]


class Typed(TypedDict):
    messages: list[Any]


class Message(BaseModel):
    role: str = "user"
    content: str = "Hi"


@dataclasses.dataclass
class Record:
    role: str = "user"


def plain() -> dict:  # type: ignore[type-arg]
    return {"messages": MESSAGES}


def of_types() -> dict[str, Any]:
    return {"messages": MESSAGES}


def mapping() -> Mapping[str, Any]:
    return {"messages": MESSAGES}


def typed_dict() -> Typed:
    return {"messages": MESSAGES}


def known_to_a_type_checker() -> Request:
    return {"messages": MESSAGES}


async def later() -> dict[str, Any]:
    return {"messages": MESSAGES}


ANNOTATED = [plain, of_types, mapping, typed_dict, known_to_a_type_checker, later]


class TestAnnotations:
    """The annotation tells what the function returns: the request. Airflow would take it for the task's value."""

    def test_the_answer_is_one_value_whatever_the_function_returns(self, airflow, chat):
        chat.default = replies.ok('{"a": 1, "b": 2}')
        wanted: dict[Any, Any] = {"text": '{"a": 1, "b": 2}', "json": {"a": 1, "b": 2}}
        with airflow.dag():
            for function in ANNOTATED:
                for kind in wanted:
                    chat_completion(function, task_id=f"{function.__name__}_{kind}", result_format=kind)()
        run = airflow.run()
        assert run.state == "success"
        for function in ANNOTATED:
            for kind, value in wanted.items():
                xcoms = run.xcoms(f"{function.__name__}_{kind}")
                assert xcoms["return_value"] == value
                assert not {"a", "b"} & set(xcoms)
        assert len(chat.requests) == 2 * len(ANNOTATED)

    def test_the_answer_of_a_mapped_task_is_not_spread(self, airflow, chat):
        chat.default = replies.ok("Hello")
        with airflow.dag():

            @task.chat_completion(task_id="ask", result_format="text")
            def ask(text) -> dict[str, Any]:
                return {"messages": [{"role": "user", "content": text}]}

            ask.expand(text=["a", "b"])
        run = airflow.run()
        assert run.state == "success"
        assert run.xcoms(map_index=1)["return_value"] == "Hello"

    def test_the_answer_of_a_branch_is_not_spread(self, airflow, chat):
        chat.default = replies.ok('{"branch": "one"}')
        with airflow.dag():

            @task.chat_completion_branch(task_id="ask")
            def ask() -> dict[str, Any]:
                return {"messages": MESSAGES}

            @task
            def one() -> None: ...

            ask() >> one()
        run = airflow.run()
        assert (run.state, run.xcoms()["return_value"]) == ("success", "one")

    @pytest.mark.parametrize("decorator", [chat_completion, chat_completion_branch])
    @pytest.mark.parametrize("given", [{}, {"multiple_outputs": None}])
    def test_airflow_infers_nothing_for_either_decorator(self, decorator, given):
        with DAG("annotated", schedule=None):
            assert not decorator(**given)(plain)().operator.multiple_outputs
            assert not decorator(plain, **given)().operator.multiple_outputs

    def test_multiple_outputs_by_hand_spreads_an_answer_that_is_an_object(self, airflow, chat):
        chat.default = replies.ok('{"a": 1, "b": 2}')
        with airflow.dag():

            @chat_completion(task_id="ask", result_format="json", multiple_outputs=True)
            def ask() -> str:
                return "Count"

            ask()
        xcoms = airflow.run().xcoms()
        assert (xcoms["return_value"], xcoms["a"], xcoms["b"]) == ({"a": 1, "b": 2}, 1, 2)


class TestAsync:
    def test_it_is_awaited_with_its_arguments_and_what_it_names_of_the_context(self, airflow, chat):
        with airflow.dag():

            @task
            def upstream():
                return "{{ data }}"

            @task.chat_completion(result_format="text", system_prompt="Short.")
            async def ask(text, times, run_id=None, **context):
                await asyncio.sleep(0)
                return f"{text} {times} {run_id == context['dag_run'].run_id}"

            ask(upstream(), times=2)
        run = airflow.run()
        assert run.xcoms()["return_value"] == "Hello"
        assert [message["content"] for message in sent(chat)["messages"]] == ["Short.", "{{ data }} 2 True"]

    def test_it_maps(self, airflow, chat):
        with airflow.dag():

            @chat_completion()
            async def ask(text, *, mark):
                return [{"role": "user", "content": text + mark}]

            ask.partial(mark="!").expand(text=["a", "b"])
        assert airflow.run().state == "success"
        assert sorted(request.json["messages"][0]["content"] for request in chat.requests) == ["a!", "b!"]

    def test_it_may_choose_a_branch(self, airflow, chat):
        chat.script(replies.ok('{"branch": "one"}'))
        with airflow.dag():

            @chat_completion_branch()
            async def ask():
                return "Which?"

            @task
            def one(): ...

            @task
            def two(): ...

            ask() >> [one(), two()]
        states = airflow.run().states()
        assert (states["one"], states["two"]) == ("success", "skipped")

    @pytest.mark.parametrize(
        "function",
        [functools.partial(lambda function: function(), later), type("Call", (), {"__call__": lambda _: later()})()],
        ids=["a function that returns a coroutine", "an object"],
    )
    def test_whatever_returns_an_awaitable_is_awaited(self, airflow, chat, function):
        function.__name__ = "ask"
        function.__annotations__ = {}
        with airflow.dag():
            chat_completion(function, task_id="ask")()
        assert airflow.run().state == "success"
        assert sent(chat)["messages"] == MESSAGES

    def test_what_it_raises_fails_the_task_and_nothing_is_sent(self, airflow, chat, capfd):
        with airflow.dag():

            @chat_completion
            async def ask():
                await asyncio.sleep(0)
                raise LookupError("no letter")

            ask()
        assert airflow.run().state == "failed"
        assert "LookupError: no letter" in "".join(capfd.readouterr())
        assert chat.requests == []


def yields():
    yield "Hi"


async def yields_later():
    yield "Hi"


class TestValues:
    @pytest.mark.parametrize("decorator", [chat_completion, chat_completion_branch, chat_completion(model="m")])
    @pytest.mark.parametrize("function", [yields, yields_later])
    def test_a_function_that_yields_breaks_the_import(self, decorator, function):
        with pytest.raises(InvalidRequest, match=r"Let 'yields.*' return a prompt .* instead of yielding"):
            decorator(function)

    def test_a_wrapper_that_makes_a_list_of_what_is_yielded_is_none(self, airflow, chat):
        @functools.wraps(yields)
        def ask():
            return "".join(yields())

        with airflow.dag():
            chat_completion(ask, task_id="ask")()
        assert airflow.run().state == "success"
        assert sent(chat)["messages"] == MESSAGES

    @pytest.mark.parametrize("parts", [PARTS, tuple(PARTS)], ids=["list", "tuple"])
    def test_a_list_of_parts_is_the_prompt(self, airflow, chat, parts):
        with airflow.dag():

            @chat_completion(system_prompt="Short.")
            def ask():
                return parts

            ask()
        assert airflow.run().state == "success"
        assert sent(chat)["messages"][1] == {"role": "user", "content": PARTS}

    def test_a_tuple_of_messages_is_the_messages(self, airflow, chat):
        with airflow.dag():

            @chat_completion
            def ask():
                return tuple(MESSAGES)

            ask()
        assert airflow.run().state == "success"
        assert sent(chat)["messages"] == MESSAGES

    @pytest.mark.parametrize(
        ("value", "told"),
        [
            (lambda: ["a", "b"], 'Join the list of texts into one text with "\\n".join(...)'),
            (lambda: ("a", "b"), 'Join the list of texts into one text with "\\n".join(...)'),
            (lambda: {"messages": ["a"]}, 'Join the list of texts into one text with "\\n".join(...)'),
            (lambda: {"messages": MESSAGES[0]}, "Put the message into a list"),
            (yields, 'not a generator; join its texts, "\\n".join(...), or make a list of its messages'),
            (yields_later, "not an async generator; join its texts"),
            (lambda: {"a", "b"}, "not a set; join its texts"),
            (lambda: b"Hi", "not a bytes; decode it: value.decode()"),
            (Message, "not a Message; make it a dict: value.model_dump()"),
            (Record, "not a Record; make it a dict: dataclasses.asdict(value)"),
            (lambda: 7, "or a request (a dict), not an int"),
            (lambda: None, "or a request (a dict), not None"),
        ],
    )
    def test_any_other_value_is_told_with_what_to_do(self, airflow, chat, capfd, value, told):
        with airflow.dag():

            @chat_completion
            def ask():
                return value()

            ask()
        assert airflow.run().state == "failed"
        assert told in "".join(capfd.readouterr())
        assert chat.requests == []


class TestPrompts:
    """Of the operators, and what an upstream task leaves for one."""

    @pytest.mark.parametrize("arguments", [{"prompt": ["a", "b"]}, {"prompt": "Hi", "system_prompt": ("a", "b")}])
    def test_a_list_of_texts_breaks_the_import_and_is_told_to_be_joined(self, arguments):
        with pytest.raises(InvalidRequest, match="Join the list of texts into one text"):
            ask(**arguments)

    def test_one_from_upstream_fails_before_anything_is_sent(self, airflow, chat):
        with airflow.dag():

            @task
            def upstream():
                return ["a", "b"]

            ask(prompt=upstream())
        assert airflow.run().state == "failed"
        assert airflow.error().message.startswith("Join the list of texts into one text")
        assert chat.requests == []

    def test_parts_from_upstream_are_sent(self, airflow, chat):
        with airflow.dag():

            @task
            def upstream():
                return PARTS

            ask(prompt=upstream())
        assert airflow.run().state == "success"
        assert sent(chat)["messages"] == [{"role": "user", "content": PARTS}]
