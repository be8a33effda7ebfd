"""Prompt caching: what asks for it is sent as it is, and what came from a cache is counted and priced."""

import pytest

from airflow_chat_provider.schema import check_rules, validate_request
from airflow_chat_provider.testing import replies
from tests.support.asking import ask, sent, user

MARK = {"type": "ephemeral", "ttl": "1h"}
PARTS = [
    {"type": "text", "text": "The terms of the shop, a long text.", "cache_control": MARK},
    {"type": "text", "text": "May I send the {{ params.thing }} back?"},
]
OPENAI = {"prompt_cache_key": "shop-{{ params.thing }}", "prompt_cache_retention": "24h"}
PRICES = {"test-*": {"input": "2", "cached_input": "0.2", "cache_write": "2.5", "output": "10"}}


@pytest.fixture
def priced(chat, connect):
    """The server, with a connection that has prices."""
    connect(**{**chat.connection, "extra": {**chat.connection.get("extra", {}), "prices": PRICES}})
    return chat


def reply(**usage):
    return replies.ok(usage=usage)


def test_a_part_keeps_its_mark_for_the_cache_and_the_texts_around_it_are_rendered(airflow, chat):
    request = {"messages": [{"role": "system", "content": PARTS[:1]}, user(PARTS)]}
    with airflow.dag(params={"thing": "kettle"}):
        ask(request=request)
    assert airflow.run().state == "success"
    rendered = [PARTS[0], {"type": "text", "text": "May I send the kettle back?"}]
    assert sent(chat)["messages"] == [{"role": "system", "content": PARTS[:1]}, user(rendered)]


def test_a_mark_may_come_from_a_template_and_stays_an_object(airflow, chat):
    part = {"type": "text", "text": "Long.", "cache_control": "{{ params.mark }}"}
    with airflow.dag(params={"mark": MARK}):
        ask(request={"messages": [user([part])]})
    assert airflow.run().state == "success"
    assert sent(chat)["messages"] == [user([{**part, "cache_control": MARK}])]


def test_a_tool_and_the_request_itself_keep_their_marks(airflow, chat):
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}, "cache_control": MARK}
    with airflow.dag():
        ask(prompt="Hi", request={"tools": [tool], "cache_control": MARK})
    assert airflow.run().state == "success"
    assert (sent(chat)["tools"], sent(chat)["cache_control"]) == ([tool], MARK)


def test_the_keys_of_openai_are_rendered_and_sent(airflow, chat):
    with airflow.dag(params={"thing": "kettle"}):
        ask(prompt="Hi", request=OPENAI)
    assert airflow.run().state == "success"
    assert {name: sent(chat)[name] for name in OPENAI} == {
        "prompt_cache_key": "shop-kettle",
        "prompt_cache_retention": "24h",
    }


def test_a_conversation_that_goes_on_keeps_the_marks_of_its_beginning(airflow, chat):
    with airflow.dag(params={"thing": "kettle"}):
        first = ask(request={"messages": [user(PARTS)]})
        type(first)(task_id="again", messages=first.output["messages"], prompt="And the lid?")
    assert airflow.run().state == "success"
    assert sent(chat)["messages"][0]["content"][0] == PARTS[0]


def test_the_rules_of_openai_and_of_the_routers_have_nothing_against_them():
    keys = {"prompt_cache_key": "k", "prompt_cache_retention": "24h"}
    openai = {"model": "gpt-5.4-mini", "messages": [user("Hi")], **keys}
    validate_request(openai)
    assert check_rules(openai, base_url="https://api.openai.com/v1") == []
    marked = {"model": "anthropic/claude-sonnet-4.6", "messages": [user([PARTS[0]])]}
    validate_request(marked)
    assert check_rules(marked, base_url="https://openrouter.ai/api/v1") == []


@pytest.mark.parametrize(
    ("usage", "counted", "cost"),
    [
        pytest.param(
            {"prompt_tokens": 1000, "completion_tokens": 10, "prompt_tokens_details": {"cached_tokens": 800}},
            (1000, 800, None),
            0.00066,
            id="OpenAI",
        ),
        pytest.param(
            {
                "input_tokens": 100,
                "output_tokens": 10,
                "cache_read_input_tokens": 800,
                "cache_creation_input_tokens": 100,
            },
            (1000, 800, 100),
            0.00071,
            id="Anthropic",
        ),
        pytest.param(
            {
                "prompt_tokens": 1000,
                "completion_tokens": 10,
                "total_tokens": 1010,
                "cache_read_input_tokens": 800,
                "cache_creation_input_tokens": 100,
                "prompt_tokens_details": {"cached_tokens": 800},
            },
            (1000, 800, 100),
            0.00071,
            id="LiteLLM",
        ),
        pytest.param(
            {
                "prompt_tokens": 1000,
                "completion_tokens": 10,
                "prompt_cache_hit_tokens": 800,
                "prompt_cache_miss_tokens": 200,
            },
            (1000, 800, None),
            0.00066,
            id="DeepSeek",
        ),
        pytest.param({"prompt_tokens": 1000, "completion_tokens": 10}, (1000, None, None), 0.0021, id="no cache"),
        pytest.param(
            {
                "prompt_tokens": 1000,
                "completion_tokens": 10,
                "prompt_tokens_details": {"cached_tokens": 800},
                "cost": 0.0005,
            },
            (1000, 800, None),
            0.0005,
            id="OpenRouter",
        ),
    ],
)
def test_what_came_from_the_cache_is_counted_and_has_its_own_price(airflow, priced, usage, counted, cost):
    priced.script(reply(**usage))
    with airflow.dag():
        ask(prompt="Hi")
    found = airflow.run().xcoms()["usage"]
    assert tuple(found[f"{name}_tokens"] for name in ("input", "cache_read", "cache_write")) == counted
    assert (found["cost"], found["currency"]) == (cost, "USD")


def test_a_stream_counts_what_came_from_the_cache_too(airflow, priced):
    usage = {"prompt_tokens": 1000, "completion_tokens": 10, "prompt_tokens_details": {"cached_tokens": 800}}
    *events, last = replies.events_of("Hello world")
    priced.script(replies.sse([*events, {**last, "usage": usage}]))
    with airflow.dag():
        ask(prompt="Hi", request={"stream": True})
    found = airflow.run().xcoms()["usage"]
    assert (found["cache_read_tokens"], found["cost"]) == (800, 0.00066)
