"""One call, four ways: in the worker, deferred to a trigger and delivered by a worker, or ended by the trigger, and in
Python on an event loop; and no difference.

One DAG has a task of each kind for every behaviour of a server; each task's model is its name.
"""

from __future__ import annotations

import ast
import asyncio
import inspect
import json
from collections import Counter, deque
from typing import Any

import pytest
from airflow.triggers.base import TaskSuccessEvent

from airflow_chat_provider.core.answer.record import safe
from airflow_chat_provider.core.answer.reply import incomplete
from airflow_chat_provider.core.json_text.writing import sanitize
from airflow_chat_provider.errors import ChatCompletionError, IncompleteReply, InvalidOutput
from airflow_chat_provider.hooks import ChatCompletionHook
from airflow_chat_provider.operators import ChatCompletionOperator
from airflow_chat_provider.retry_policy import ChatCompletionRetryPolicy
from airflow_chat_provider.testing import ChatServer, faults, replies
from tests.support import behaviours
from tests.support.behaviours import BEHAVIOURS, Behaviour
from tests.support.calling import deaf_port
from tests.support.running import Airflow, Run, noting_events

WORLDS = ("sync", "deferred", "async")
EXTRAS = {
    "chat_default": {},
    "small": {"max_response_bytes": 2 << 20, "stall_timeout": 0.3},
    "nowhere": {},
    "deaf": {"connect_timeout": 0.3},
}
HOOKS = {"timeout", "deadline", "max_attempts"}
# What the operator makes of a reply that the hook is content with.
OPERATORS_OWN = (IncompleteReply, InvalidOutput)


class World:
    """What each world made of each behaviour."""

    def __init__(self, airflow: Airflow, run: Run, server: ChatServer, events: dict[str, Any]) -> None:
        self._airflow, self._run, self.events = airflow, run, events
        self.requests = Counter(request.json["model"] for request in server.requests)
        self.keys = {(r.json["model"], r.headers["idempotency-key"]) for r in server.requests}

    def xcoms(self, task_id: str) -> dict[str, Any]:
        return self._run.xcoms(task_id)

    def error(self, task_id: str) -> Any:
        return self._airflow.error(task_id)


def task_id(world: str, name: str) -> str:
    return f"{world}_{list(BEHAVIOURS).index(name)}"


def make(name: str, world: str) -> None:
    own = task_id(world, name)
    arguments = {**BEHAVIOURS[name].arguments, "deferrable": world == "deferred"}
    ChatCompletionOperator(task_id=own, model=own, prompt="Hi", **arguments)


@pytest.fixture(scope="module")
def server():
    scripts = {task_id(world, name): deque(BEHAVIOURS[name].script) for world in WORLDS for name in BEHAVIOURS}

    def answer(request):
        return scripts[request.json["model"]].popleft()

    with ChatServer(default=answer) as running:
        yield running


@pytest.fixture(scope="module")
def connected(server):
    with pytest.MonkeyPatch.context() as patch, deaf_port() as deaf:
        hosts = {"nowhere": "http://127.0.0.1:9/v1", "deaf": f"http://127.0.0.1:{deaf}/v1"}
        for conn_id, extra in EXTRAS.items():
            host = hosts.get(conn_id, server.url)
            value = {"conn_type": "chat", "host": host, "password": "sk-test-1234567890", "extra": extra}
            patch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", json.dumps(value))
        yield


@pytest.fixture(scope="module")
def world(server, connected, run_dag):
    airflow = Airflow(run_dag)
    # Nobody waits here for as long as a server says: Airflow 3.4 would reschedule the task.
    with airflow.dag(default_args={"retry_policy": ChatCompletionRetryPolicy(reschedule_timeout=0)}):
        for name in BEHAVIOURS:
            make(name, "sync")
            make(name, "deferred")
    events: dict[str, Any] = {}
    with noting_events(events):
        return World(airflow, airflow.run(), server, events)


def shown(error: Any, own: str) -> Any:
    """All of an error that a reader sees, with the same name for every world's task."""
    return error and {key: drained(str(value).replace(own, "TASK")) for key, value in error.to_dict().items()}


def without_time(usage: dict[str, Any], own: str) -> dict[str, Any]:
    """A usage without its seconds, and with the same model for every world's task."""
    assert usage["seconds"] >= 0
    return {**usage, "seconds": None, "model": str(usage["model"]).replace(own, "TASK")}


def drained(body: Any) -> Any:
    """A body without the spaces at its end: how many of them drip before the time limit is up to the machine."""
    return body.rstrip(" ") if isinstance(body, str) else body


@pytest.mark.database
@pytest.mark.parametrize("name", BEHAVIOURS)
def test_a_trigger_ends_a_task_that_succeeds_and_a_worker_one_that_fails(world, name):
    own = task_id("deferred", name)
    event = world.events.get(own)
    if event is None:  # what is wrong with a request is known before it is deferred
        assert BEHAVIOURS[name].requests == 0
        return
    assert isinstance(event, TaskSuccessEvent) is (world.error(own) is None)


@pytest.mark.database
@pytest.mark.parametrize("name", BEHAVIOURS)
def test_a_task_leaves_the_same_whether_it_defers_or_not(world, name):
    behaviour: Behaviour = BEHAVIOURS[name]
    outcomes = []
    for kind in ("sync", "deferred"):
        own = task_id(kind, name)
        xcoms = world.xcoms(own)
        if "configuration" in xcoms:
            assert xcoms["configuration"].pop("model") == own
        if "usage" in xcoms:
            xcoms["usage"] = without_time(xcoms["usage"], own)
        if "body" in xcoms:
            xcoms = {**xcoms, "body": drained(xcoms["body"])}
        outcomes.append((xcoms, shown(world.error(own), own), world.requests[own]))
    first, second = outcomes
    assert first == second
    assert first[2] == behaviour.requests
    expected = behaviour.error.__name__ if behaviour.error else None
    assert (first[1] or {}).get("error") == expected
    assert bool(first[0]) is (expected != "InvalidRequest")


@pytest.mark.database
@pytest.mark.parametrize("name", BEHAVIOURS)
def test_python_code_gets_the_same_on_an_event_loop(world, name):
    behaviour: Behaviour = BEHAVIOURS[name]
    limits = {key: value for key, value in behaviour.arguments.items() if key in HOOKS}
    hook = ChatCompletionHook(behaviour.arguments.get("chat_conn_id", "chat_default"), **limits)
    own, twin = task_id("async", name), task_id("sync", name)
    request = {"model": own, "messages": [{"role": "user", "content": "Hi"}], **behaviour.arguments.get("request", {})}
    error, xcoms = world.error(twin), world.xcoms(twin)
    found, reply = outcome(hook, request)
    if found is None:
        assert error is None or isinstance(error, OPERATORS_OWN)
        assert reply.body == xcoms["body"]
        assert (incomplete(reply.body) is not None) == name.startswith(("is cut off", "refuses to answer"))
        return
    assert found.status == xcoms.get("status")
    if behaviour.arguments.get("check_status", True):
        assert shown(found, own) == shown(error, twin)


def outcome(hook: ChatCompletionHook, request: dict[str, Any]) -> tuple[Any, Any]:
    """The error, or the reply, as far as XCom can keep it."""
    try:
        return None, safe(asyncio.run(hook.acreate(request)))
    except ChatCompletionError as error:
        error.body = sanitize(error.body)[0]
        return error, None


@pytest.mark.database
def test_all_attempts_of_a_call_share_a_key_that_no_other_call_has(world):
    models = {model for model, _ in world.keys if not model.startswith("async")}
    keys = {key for model, key in world.keys if not model.startswith("async")}
    assert len(keys) == len(models) == 2 * sum(behaviour.requests > 0 for behaviour in BEHAVIOURS.values())


def test_every_reply_that_the_test_server_knows_is_a_behaviour_here():
    tree = ast.parse(inspect.getsource(behaviours))
    used = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    for module in (replies, faults):
        known = {
            name
            for name, function in inspect.getmembers(module, inspect.isfunction)
            if function.__module__ == module.__name__
            and not name.startswith("_")
            and inspect.signature(function).return_annotation == "Reply"
        }
        assert known
        assert known - used == set()
