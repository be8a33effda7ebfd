"""Shorthands for tests of the operator."""

import pytest

from airflow_chat_provider.compat import AirflowFailException
from airflow_chat_provider.errors import InvalidRequest
from airflow_chat_provider.operators import ChatCompletionOperator


def ask(**arguments):
    return ChatCompletionOperator(task_id="ask", **arguments)


def sent(chat, index=-1):
    return chat.requests[index].json


def failing(operator, context=None):
    """The InvalidRequest of an operator that is run by hand."""
    import jinja2

    operator.render_template_fields(context or {"params": {}}, jinja2.sandbox.SandboxedEnvironment())
    with pytest.raises((InvalidRequest, AirflowFailException)) as caught:
        operator.execute({"ti": None})
    error = caught.value
    return error if isinstance(error, InvalidRequest) else error.__cause__
