"""The public way to check a request without sending it."""

import pytest

from airflow_chat_provider import schema
from airflow_chat_provider.errors import InvalidRequest

REQUEST = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}


def test_a_request_that_is_right_gives_nothing_back():
    schema.validate_request(REQUEST)
    assert schema.check_rules(REQUEST) == []


@pytest.mark.parametrize("name", schema.SHIPPED)
def test_a_request_that_breaks_a_shipped_schema_is_named_by_its_path(name):
    with pytest.raises(InvalidRequest) as caught:
        schema.validate_request({**REQUEST, "temperature": 3}, name)
    assert (caught.value.path, caught.value.keyword) == ("$.temperature", "maximum")


def test_rules_beyond_the_schema_are_checked_on_their_own():
    request = {**REQUEST, "top_logprobs": 2}
    schema.validate_request(request)
    with pytest.raises(InvalidRequest) as caught:
        schema.check_rules(request, base_url="https://api.openai.com/v1")
    assert caught.value.path == "$.top_logprobs"
    (warning,) = schema.check_rules(request)
    assert warning.startswith("$.top_logprobs is set, but logprobs is not true")
