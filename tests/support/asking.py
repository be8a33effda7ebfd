"""Shorthands for tests of the operator."""

import threading

import pytest

from airflow_chat_provider.airflow_api.compat import exceptions
from airflow_chat_provider.errors import ChatCompletionError, InvalidRequest
from airflow_chat_provider.operators import ChatCompletionOperator


def ask(**arguments):
    return ChatCompletionOperator(task_id="ask", **arguments)


def sent(chat, index=-1):
    return chat.requests[index].json


def keys(chat):
    """The Idempotency-Keys that came, in their order."""
    return [request.headers["idempotency-key"] for request in chat.requests]


def user(content):
    return {"role": "user", "content": content}


def system(content):
    return {"role": "system", "content": content}


def setting(**values):
    """For ``pre_execute``: sets attributes of the task."""

    def set_them(context):
        for name, value in values.items():
            setattr(context["task"], name, value)

    return set_them


def failing(operator, context=None):
    """The InvalidRequest of an operator that is run by hand."""
    import jinja2

    operator.render_template_fields(context or {"params": {}}, jinja2.sandbox.SandboxedEnvironment())
    with pytest.raises((InvalidRequest, exceptions.AirflowFailException)) as caught:
        operator.execute({"ti": None})
    error = caught.value
    return error if isinstance(error, InvalidRequest) else error.__cause__


def killed(operator, server):
    """The error of an operator that is killed while the server has it wait; the server has seen the socket close."""
    raised = []

    def run():
        try:
            operator.execute({"ti": None})
        except ChatCompletionError as error:
            raised.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    assert server.wait_requests(1)
    operator.on_kill()
    assert server.wait_closed()
    thread.join(120)
    return raised[0]
