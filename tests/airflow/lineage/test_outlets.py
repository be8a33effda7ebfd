"""The assets that a task makes show what it took: their events have the usage in ``extra``."""

from __future__ import annotations

import json
from typing import Any

import pytest
from airflow.sdk import Asset, AssetAlias
from airflow.triggers.base import TaskSuccessEvent

from airflow_chat_provider.airflow_api.compat import alias_events_hold_objects
from airflow_chat_provider.decorators import chat_completion
from airflow_chat_provider.operators import (
    ChatCompletionBatchOperator,
    ChatCompletionBranchOperator,
    ChatCompletionOperator,
)
from airflow_chat_provider.testing import replies
from tests.support.running import Airflow, noting_events

ANSWERS = Asset("lineage_answers", uri="file:///lineage/answers")


def events_of(asset: Asset) -> list[dict[str, Any]]:
    """The ``extra`` of each event of an asset, oldest first, as its page shows it."""
    from airflow.models.asset import AssetEvent, AssetModel
    from airflow.utils.session import create_session
    from sqlalchemy import select

    with create_session() as session:
        (asset_id,) = session.scalars(select(AssetModel.id).where(AssetModel.name == asset.name)).all()
        found = session.scalars(select(AssetEvent).where(AssetEvent.asset_id == asset_id).order_by(AssetEvent.id)).all()
        return [dict(event.extra) for event in found]


@pytest.fixture
def new_events(airflow_db):
    """The events that came since the test began, of ANSWERS or of another asset."""
    counts: dict[str, int] = {}

    def new(asset: Asset = ANSWERS) -> list[dict[str, Any]]:
        return events_of(asset)[counts.get(asset.name, 0) :]

    try:
        counts[ANSWERS.name] = len(events_of(ANSWERS))
    except ValueError:
        counts[ANSWERS.name] = 0
    return new


def test_an_outlet_is_updated_once_and_its_event_has_the_usage(airflow, chat, new_events):
    with airflow.dag():
        ChatCompletionOperator(task_id="ask", prompt="Hi", outlets=[ANSWERS])
    run = airflow.run()
    (extra,) = new_events()
    usage = run.xcoms()["usage"]
    usage.pop("rejected", None)
    assert extra == {"usage": usage}
    assert extra["usage"]["total_tokens"] == 11


def test_without_xcoms_the_event_has_the_usage_all_the_same(airflow, chat, new_events):
    with airflow.dag():
        ChatCompletionOperator(task_id="ask", prompt="Hi", outlets=[ANSWERS], do_xcom_push=False)
    airflow.run()
    (extra,) = new_events()
    assert extra["usage"]["total_tokens"] == 11


def test_a_decorated_function_and_a_branch_tell_their_outlets_too(airflow, chat, new_events):
    @chat_completion(task_id="ask", outlets=[ANSWERS])
    def ask() -> str:
        return "Hi"

    chat.script(replies.ok(), replies.ok_json({"branch": "one"}))
    with airflow.dag():
        branch = ChatCompletionBranchOperator(task_id="pick", prompt="Which?", outlets=[ANSWERS])
        after = [ChatCompletionOperator(task_id=name, prompt="Hi") for name in ("one", "two")]
        ask() >> branch >> after
    assert airflow.run().states()["two"] == "skipped"
    assert [extra["usage"]["requests"] for extra in new_events()] == [1, 1]


def test_what_somebody_else_put_into_the_event_stays(airflow, chat, new_events):
    def before(context: Any) -> None:
        context["outlet_events"][ANSWERS].extra = {"usage": "mine", "rows": 3}

    def after(context: Any, result: Any = None) -> None:
        context["outlet_events"][ANSWERS].extra["note"] = "added"

    with airflow.dag():
        ChatCompletionOperator(task_id="ask", prompt="Hi", outlets=[ANSWERS], pre_execute=before, post_execute=after)
    airflow.run()
    assert new_events() == [{"usage": "mine", "rows": 3, "note": "added"}]


def test_an_alias_has_the_usage_in_the_events_that_were_added_to_it(run_dag, chat, airflow_db):
    alias, asset = AssetAlias("lineage_alias"), Asset("lineage_resolved", uri="file:///lineage/resolved")

    @chat_completion(task_id="ask", outlets=[alias])
    def ask(outlet_events: Any = None) -> str:
        outlet_events[alias].add(asset, extra={"note": "mine"})
        return "Hi"

    airflow = Airflow(run_dag)
    with airflow.dag():
        ask()
    airflow.run()
    (extra,) = events_of(asset)
    assert extra["note"] == "mine"
    if alias_events_hold_objects():  # or Airflow would lose the event
        assert extra["usage"]["total_tokens"] == 11


@pytest.mark.skipif(not alias_events_hold_objects(), reason="Airflow loses such an event before 3.1.4")
def test_who_adds_to_an_alias_after_the_call_finds_the_usage_there(airflow, chat, airflow_db):
    alias = AssetAlias("lineage_late_alias")
    asset = Asset(f"lineage_late_{airflow.deferrable}", uri=f"file:///lineage/late/{airflow.deferrable}")

    def after(context: Any, result: Any = None) -> None:
        events = context["outlet_events"][alias]
        events.add(asset, extra=events.extra)

    with airflow.dag():
        ChatCompletionOperator(task_id="ask", prompt="Hi", outlets=[alias], post_execute=after)
    airflow.run()
    (extra,) = events_of(asset)
    assert extra["usage"]["total_tokens"] == 11


def test_a_task_that_fails_updates_no_outlet(airflow, chat, new_events):
    chat.default = replies.error(401, "no such key")
    with airflow.dag():
        ChatCompletionOperator(task_id="ask", prompt="Hi", outlets=[ANSWERS])
    assert airflow.run().state == "failed"
    assert new_events() == []


def test_a_task_with_outlets_ends_in_a_worker_because_a_trigger_updates_none(run_dag, chat, new_events):
    airflow, events = Airflow(run_dag, deferrable=True), dict[str, Any]()
    with airflow.dag():
        ChatCompletionOperator(task_id="ask", prompt="Hi", outlets=[ANSWERS])
    with noting_events(events):
        airflow.run()
    assert not isinstance(events["ask"], TaskSuccessEvent)
    assert len(new_events()) == 1


def test_an_operator_inside_another_task_leaves_the_outlets_of_both_alone(run_dag, chat, new_events):
    from airflow.sdk import task

    @task(outlets=[ANSWERS])
    def outer() -> None:
        ChatCompletionOperator(task_id="inner", prompt="Hi", outlets=[ANSWERS]).execute({})

    airflow = Airflow(run_dag)
    with airflow.dag(default_args={"deferrable": None}):
        outer()
    assert airflow.run().state == "success"
    assert new_events() == [{}]


def test_the_asset_of_a_batch_has_its_usage_and_how_its_rows_ended(run_dag, chat, new_events, tmp_path):
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in "abc"), "utf-8")
    airflow = Airflow(run_dag)
    with airflow.dag():
        ChatCompletionBatchOperator(
            task_id="bulk",
            input=str(tmp_path / "rows.jsonl"),
            output=str(tmp_path / "out"),
            prompt="{{ row.text }}",
            outlets=[ANSWERS],
        )
    run = airflow.run()
    (extra,) = new_events()
    assert extra["rows"] == {"total": 3, "succeeded": 3, "failed": {}, "missing": 0, "incomplete": 0}
    assert extra["usage"]["total_tokens"] == run.xcoms("bulk")["usage"]["total_tokens"] == 33
