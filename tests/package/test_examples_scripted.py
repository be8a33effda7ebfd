"""The example DAGs that need a server with scripted answers, run by the real Airflow."""

import re
import sqlite3
from base64 import b64encode
from contextlib import closing
from datetime import UTC, datetime

import pytest

from airflow_chat_provider.testing import batch_faults, replies
from tests.support.obliging import answer_to, obliging
from tests.support.running import Run, load_dag, load_dags


@pytest.fixture
def run(project, run_dag, chat):
    """Run an example by its name."""

    def go(name, conf=None, **changes):
        dag = load_dag(project / "dags_examples" / f"{name}.py", f"example_chat_{name}")
        for task_id, retries in changes.items():
            dag.get_task(task_id).retries = retries
        return Run(run_dag(dag, run_conf=conf))

    return go


@pytest.fixture
def obliging_chat(chat):
    """What answers in whichever form is asked for."""
    chat.default = obliging
    return chat


def test_tickets_sql_writes_the_categories_back_and_asks_for_new_tickets_only(run, obliging_chat, tmp_path):
    for asked, state in ((3, "success"), (3, "success")):  # in the second run nothing is new
        finished = run("tickets_sql", {"output": str(tmp_path)})
        assert (finished.state, len(obliging_chat.requests)) == (state, asked)
    with closing(sqlite3.connect(tmp_path / "tickets.db")) as connection:
        rows = connection.execute("SELECT id, category, urgent FROM tickets ORDER BY id").fetchall()
    assert rows == [(1, "billing", 1), (2, "billing", 1), (3, "billing", 1), (4, "other", 0)]


def test_tickets_sql_leaves_a_ticket_whose_answer_did_not_come_for_the_next_run(run, obliging_chat, tmp_path):
    def refuses_the_second(request):
        return replies.error(400, "no") if "parcel" in request.body.decode() else obliging(request)

    obliging_chat.default = refuses_the_second
    assert run("tickets_sql", {"output": str(tmp_path)}).xcoms("write_back")["return_value"] == 2
    obliging_chat.default = obliging
    assert run("tickets_sql", {"output": str(tmp_path)}).xcoms("write_back")["return_value"] == 1


def test_invoices_sends_each_picture_and_adds_up_what_was_read(run, chat, project):
    totals = {"1041": 193.5, "1042": 64.7, "1043": 998.0}
    files = {name: project / "dags_examples" / "data" / "invoices" / f"invoice-{name}.png" for name in totals}
    pictures = {name: f"data:image/png;base64,{b64encode(file.read_bytes()).decode()}" for name, file in files.items()}

    def reads(request):
        picture = request.json["messages"][-1]["content"][-1]["image_url"]["url"]
        name = next(name for name, data in pictures.items() if picture == data)
        return replies.ok_json({"number": name, "seller": "A shop", "total": totals[name], "currency": "EUR"})

    chat.default = reads
    finished = run("invoices")
    assert finished.state == "success"
    assert finished.xcoms("total")["return_value"] == {"EUR": 1256.2}


def test_report_map_reduce_asks_for_each_product_and_once_for_all(run, chat):
    def about(request):
        product = re.search(r"this product, (.+?), in", request.json["messages"][-1]["content"])
        return replies.ok(f"About: {product[1]}." if product else "The lamp.")

    chat.default = about
    finished = run("report_map_reduce")
    assert finished.state == "success"
    asked = [request.json["messages"][-1]["content"] for request in chat.requests]
    assert len(asked) == 5
    assert asked[-1].endswith("- About: kettle.\n- About: desk lamp.\n- About: backpack.\n- About: headphones.")
    assert finished.xcoms("report")["return_value"] == "The lamp."


@pytest.mark.parametrize(("choice", "state"), [("Approve", "success"), ("Reject", "skipped")])
def test_approved_answer_is_sent_only_if_a_person_approves_it(run, chat, monkeypatch, choice, state):
    from airflow.providers.standard.operators.hitl import ApprovalOperator

    seen = []

    def click(self, context):
        """Stands for the person: Airflow waits for a click in its UI, which `dag.test()` does not have."""
        seen.append(self.body)
        at = datetime.now(UTC)
        form = dict(self.params)  # Airflow 3.1 shows those of the DAG, too
        answer = {"chosen_options": [choice], "params_input": form, "responded_at": at, "responded_by_user": None}
        return self.execute_complete(context, answer)

    monkeypatch.setattr(ApprovalOperator, "execute", click)
    chat.script(replies.ok("We are sorry."))
    finished = run("approved_answer")
    assert (finished.state, finished.states()["send"]) == ("success", state)
    assert seen[0].endswith("The answer:\n\n> We are sorry.")


KEPT = {"prompt_tokens": 1000, "completion_tokens": 10, "prompt_tokens_details": {"cached_tokens": 800}}


@pytest.fixture
def prices(chat, connect):
    """The connection with a price for the model that answers."""
    connect(chat.url, extra={"model": "asked", "prices": {"test-*": {"input": 2, "cached_input": "0.2", "output": 10}}})


def test_cached_prompt_asks_each_question_behind_the_same_text_and_counts_what_was_kept(run, chat, prices):
    chat.default = replies.ok(usage=KEPT)
    finished = run("cached_prompt")
    assert finished.state == "success"
    requests = [request.json for request in chat.requests]
    assert len({request["messages"][0]["content"] for request in requests}) == 1
    assert len({request["messages"][1]["content"] for request in requests}) == 3
    assert {request["prompt_cache_key"] for request in requests} == {"shop-terms"}
    told = finished.xcoms("saved")["return_value"]
    assert (told["input_tokens"], told["cache_read_tokens"], round(told["cost"], 8)) == (3000, 2400, 0.00198)


def test_cost_report_adds_up_the_calls_of_both_tasks_by_model(run, chat, prices, tmp_path):
    chat.default = replies.ok("good", usage=KEPT)
    finished = run("cost_report", {"output": str(tmp_path)})
    assert finished.state == "success"
    assert finished.xcoms("report")["return_value"] == {
        "test-model": {"calls": 3, "tokens": 3030, "cost": {"USD": "0.00198"}}
    }


def test_cost_report_fails_if_it_was_too_much(run, chat, prices, tmp_path):
    chat.default = replies.ok("good", usage=KEPT)
    finished = run("cost_report", {"output": str(tmp_path), "most": 0.001})
    assert (finished.state, finished.states()["report"]) == ("failed", "failed")


def test_cost_report_counts_a_task_that_failed_and_knows_no_cost_without_a_price(run, chat, tmp_path):
    chat.default = lambda request: replies.error(400, "no") if "pipeline" in str(request.json) else replies.ok("good")
    finished = run("cost_report", {"output": str(tmp_path)})
    assert finished.states() == {"ask": "failed", "classify": "success", "report": "success"}
    assert finished.xcoms("report")["return_value"] == {"test-model": {"calls": 2, "tokens": 22, "cost": {}}}


def test_failure_digest_counts_the_failures_of_the_batches_and_asks_once(run, chat, tmp_path):
    chat.default = replies.error(400, "The picture is broken", code="bad_picture")
    assert run("bulk_reviews", {"output": str(tmp_path)}).state == "failed"
    chat.requests.clear()
    chat.default = replies.ok("Look at the pictures.")
    finished = run("failure_digest", {"output": str(tmp_path)})
    assert finished.state == "success"
    (request,) = chat.requests
    told = request.json["messages"][-1]["content"].splitlines()
    assert re.fullmatch(r"\d x reviews: StatusError, status 400, bad_picture", told[-1])


def test_failure_digest_asks_nothing_where_nothing_failed(run, chat, tmp_path):
    finished = run("failure_digest", {"output": str(tmp_path)})
    assert (finished.state, finished.states()["digest"], chat.requests) == ("success", "skipped", [])


@pytest.fixture
def batch_api(run, batch_server):
    """A server that has a batch API, and answers as is asked; the connection leads to it from now on."""
    batch_server.answer = answer_to
    return batch_server


def single_calls(server):
    return [request for request in server.requests if request.path.endswith("/chat/completions")]


@pytest.mark.parametrize(("answered", "left"), [(8, 0), (5, 3)])
def test_bulk_batch_api_asks_singly_for_what_the_batch_api_has_left(run, batch_api, tmp_path, answered, left):
    if left:
        batch_api.script(batch_faults.expired(rows=answered))
    finished = run("bulk_batch_api", {"output": str(tmp_path)}, overnight=0)  # a retry would wait for minutes
    assert finished.states()["the_rest"] == "success"
    assert len(single_calls(batch_api)) == left
    assert finished.xcoms("count")["return_value"] == {"positive": 8}


def test_limits_asks_for_a_city_and_then_for_each(run, obliging_chat, tmp_path):
    finished = run("limits", {"output": str(tmp_path)})
    assert finished.state == "success"
    assert finished.xcoms("describe")["return_value"]["succeeded"] == 8


def test_limits_stops_a_batch_that_is_over_its_limit_and_keeps_what_came(run, obliging_chat, tmp_path):
    finished = run("limits", {"output": str(tmp_path), "batch_tokens": 100})
    assert finished.states() == {"pick": "success", "describe": "failed"}
    assert 1 < len(obliging_chat.requests) < 9
    (results,) = tmp_path.glob("*/cities/results.jsonl")
    assert len(results.read_text("utf-8").splitlines()) == len(obliging_chat.requests) - 1


def test_the_page_of_examples_has_each_of_them_once(project):
    page = (project / "docs" / "examples.md").read_text("utf-8")
    named = re.findall(r"^\| `(\w+\.py)` \| ", page, re.MULTILINE)
    assert sorted(named) == sorted(file.name for file in (project / "dags_examples").glob("*.py"))


def test_no_example_has_the_id_of_a_dag_that_a_user_may_have(project):
    """Airflow shows the examples beside the user's own DAGs, and takes two with one id for the same."""
    for file in (project / "dags_examples").glob("*.py"):
        assert [dag_id for dag_id in load_dags(file) if dag_id != f"example_chat_{file.stem}"] == []


def test_bulk_reuse_asks_for_what_is_new_since_the_last_run(run, chat, tmp_path):
    first = run("bulk_reuse", {"output": str(tmp_path)})
    rows = first.xcoms("tell")["return_value"]["total"]
    assert first.xcoms("tell")["return_value"] == {"total": rows, "reused": 0, "deduplicated": 0, "asked": rows}
    second = run("bulk_reuse", {"output": str(tmp_path), "new_reviews": ["Too small.", "Too small."]})
    assert second.xcoms("tell")["return_value"] == {"total": rows + 2, "reused": rows, "deduplicated": 1, "asked": 1}
    assert len(chat.requests) == rows + 1
