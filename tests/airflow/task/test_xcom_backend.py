"""A deferred call with Airflow's own object storage for XCom: what lies there at the end is what any task leaves."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from airflow_chat_provider.airflow_api.xcom import Slot
from airflow_chat_provider.durable.entry import KEY
from airflow_chat_provider.operators import ChatCompletionOperator
from airflow_chat_provider.testing import replies
from tests.support.running import Airflow

PROMPT = "canary prompt that is to lie nowhere"


@pytest.fixture
def store(tmp_path, monkeypatch):
    """The folder in which the backend keeps whatever is longer than a few characters."""
    backend = pytest.importorskip("airflow.providers.common.io.xcom.backend")
    from airflow.sdk.execution_time import xcom

    for name, value in {"path": f"file://{tmp_path}", "threshold": "10"}.items():
        monkeypatch.setenv(f"AIRFLOW__COMMON_IO__XCOM_OBJECTSTORAGE_{name.upper()}", value)
    for cached in vars(backend).values():
        if callable(getattr(cached, "cache_clear", None)):
            cached.cache_clear()
    monkeypatch.setattr(xcom, "XCom", backend.XComObjectStorageBackend)
    return tmp_path


def texts(store: Path) -> list[str]:
    return [path.read_text("utf-8") for path in store.rglob("*") if path.is_file()]


@pytest.mark.parametrize(
    "arguments", [{}, {"post_execute": lambda context, result=None: None}], ids=["trigger", "worker"]
)
def test_the_journal_leaves_no_object_behind(run_dag, chat, store, arguments):
    chat.script(replies.error(429, "slow", headers={"retry-after-ms": "1"}), replies.ok("a fine answer"))
    airflow = Airflow(run_dag, deferrable=True)
    with airflow.dag():
        ChatCompletionOperator(task_id="ask", prompt=PROMPT, push_messages=False, **arguments)
    run = airflow.run()
    assert run.state == "success"
    assert not any(key.startswith(KEY) for key in run.xcoms())
    assert not any(PROMPT in text for text in texts(store))
    if not arguments:
        assert any("a fine answer" in text for text in texts(store)), "the backend keeps what the trigger leaves"


def in_a_task(run_dag, work):
    """Do something with an XCom in a running task."""

    class Working(ChatCompletionOperator):
        def execute(self, context):
            work(Slot.from_ti(context["ti"], "key"))

    airflow = Airflow(run_dag)
    with airflow.dag():
        Working(task_id="ask", prompt="Hi")
    assert airflow.run().state == "success"


def test_an_overwritten_xcom_leaves_one_object(run_dag, chat, store):
    counts = []

    def work(slot):
        for value in ("x" * 50, "y" * 50):
            slot.put(value)
            counts.append(len(texts(store)))
        assert json.loads(texts(store)[0]) == "y" * 50
        slot.drop()
        counts.append(len(texts(store)))

    in_a_task(run_dag, work)
    assert counts == [1, 1, 0]


def test_an_object_that_the_backend_has_overwritten_is_not_purged(run_dag, chat, tmp_path, monkeypatch):
    from airflow.sdk.bases.xcom import BaseXCom
    from airflow.sdk.execution_time import xcom

    class Overwriting(BaseXCom):
        """Keeps a value where the older one of its key is, as Airflow's own backend does from Airflow 3.4 on."""

        @staticmethod
        def serialize_value(value, *, key=None, **of):
            (tmp_path / key).write_text(value)
            return BaseXCom.serialize_value(str(tmp_path / key))

        @staticmethod
        def deserialize_value(result):
            return Path(BaseXCom.deserialize_value(result)).read_text("utf-8")

        @classmethod
        def purge(cls, xcom, *arguments):
            Path(xcom.value).unlink()

    monkeypatch.setattr(xcom, "XCom", Overwriting)
    found = []

    def work(slot):
        for value in ("older", "newer"):
            slot.put(value)
        found.append(slot.get())
        slot.drop()

    in_a_task(run_dag, work)
    assert found == ["newer"]
