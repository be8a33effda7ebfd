"""The plugin in a whole Airflow: who finds it there, and what it gives to whom. Browsers look at the pages in ui/."""

from importlib.metadata import version
from urllib.parse import urljoin, urlsplit

import pytest

from airflow_chat_provider.testing import ChatServer, replies
from tests.support.airflow_process import STEP
from tests.support.airflow_site import AirflowSite

pytestmark = pytest.mark.scheduler

AIRFLOW = tuple(map(int, version("apache-airflow-core").split(".")[:2]))
PREFIX = "/a/prefix"

DAGS = """
from airflow.sdk import DAG, BaseOperator
from airflow_chat_provider.decorators import chat_completion
from airflow_chat_provider.operators import ChatCompletionOperator


class Mine(ChatCompletionOperator):
    pass


class Operator(BaseOperator):
    def __init__(self, text="", **kwargs):
        super().__init__(**kwargs)

    def execute(self, context):
        pass


with DAG("linked", schedule=None):
    ChatCompletionOperator(task_id="ours", prompt="Hi")
    ChatCompletionOperator(task_id="deferred", prompt="Hi", deferrable=True)
    ChatCompletionOperator.partial(task_id="mapped").expand(prompt=["Hi", "Ho"])
    chat_completion(lambda: "Hi", task_id="decorated")()
    Mine(task_id="mine", prompt="Hi")
    Mine(task_id="mine_deferred", prompt="Hi", deferrable=True)
    Mine.partial(task_id="mine_mapped").expand(prompt=["Hi", "Ho"])
    Operator(task_id="foreign")
    Operator.partial(task_id="foreign_mapped").expand(text=["Hi"])

with DAG("hidden", schedule=None):
    ChatCompletionOperator(task_id="ask", prompt="Hi")
"""
OURS = ["ours", "deferred", "mapped", "decorated"]
SUBCLASSES = ["mine", "mine_deferred", "mine_mapped"]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    with (
        ChatServer(default=replies.ok("Hello")) as model,
        AirflowSite(tmp_path_factory.mktemp("site"), model.url, dags=DAGS, prefix=PREFIX) as running,
    ):
        yield running


@pytest.fixture(scope="module")
def runs(site):
    """By the id of the DAG; ended."""
    runs = {dag_id: site.trigger(dag_id) for dag_id in ("linked", "hidden")}
    states = {dag_id: run.wait_state(2 * STEP) for dag_id, run in runs.items()}
    assert states == dict.fromkeys(runs, "success"), site.logs[-20_000:]
    return runs


def links(site, run, task_id):
    path = f"/api/v2/dags/{run.dag_id}/dagRuns/{run.run_id}/taskInstances/{task_id}/links"
    index = "?map_index=0" if task_id.endswith("mapped") else ""
    return site.get(path + index, "viewer").json()["extra_links"]


@pytest.mark.parametrize("task_id", OURS + SUBCLASSES)
def test_each_task_of_ours_has_a_link_to_its_conversation_below_the_base_path(site, runs, task_id):
    link = links(site, runs["linked"], task_id)["Conversation"]
    # As Airflow's pages do, which name their base path.
    address = urlsplit(urljoin(f"{site.url}/", link))
    assert address.path == f"{PREFIX}/chat/conversation"
    assert f"task_id={task_id}&" in address.query
    assert site.get(f"/{link}", None).status_code == 200


@pytest.mark.parametrize("task_id", ["foreign", "foreign_mapped"])
def test_no_other_task_has_any(site, runs, task_id):
    assert links(site, runs["linked"], task_id) == {}


def test_nothing_runs_in_a_worker_for_a_task_of_our_own(site, runs):
    path = f"/api/v2/dags/linked/dagRuns/{runs['linked'].run_id}/taskInstances/~/xcomEntries?limit=100"
    pushed = {entry["task_id"] for entry in site.get(path, "viewer").json()["xcom_entries"] if "_link_" in entry["key"]}
    assert pushed == set(SUBCLASSES)


def test_airflow_lists_the_plugin_without_a_mistake(site):
    plugins = {plugin["name"]: plugin for plugin in site.get("/api/v2/plugins", "admin").json()["plugins"]}
    ours = plugins["airflow_chat"]
    assert [app["url_prefix"] for app in ours["fastapi_apps"]] == ["/chat"]
    views = {view["name"]: view for view in ours["external_views"]}
    assert set(views) == {"Chat usage", "Conversation"} if AIRFLOW >= (3, 4) else {"Chat usage"}
    assert site.get("/api/v2/plugins/importErrors", "admin").json()["total_entries"] == 0


def test_anybody_gets_the_pages_and_nobody_gets_data_without_a_session(site):
    for path in ("/chat/usage", "/chat/conversation?dag_id=hidden", "/chat/static/usage.js"):
        answer = site.get(path, None)
        assert answer.status_code == 200
        assert "frame-ancestors 'self'" in answer.headers["content-security-policy"]
    assert site.get("/api/v2/dags", None).status_code == 401


def test_each_answer_of_the_app_keeps_its_headers_in_airflow(site):
    missing, sent = site.get("/chat/nowhere", None), site.get("/chat/usage", "admin", "POST")
    assert (missing.status_code, sent.status_code) == (404, 405)
    for answer in (missing, sent):
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["content-security-policy"].startswith("default-src 'none'")


def test_a_user_who_lacks_a_dag_sees_nothing_of_it_in_the_api_that_the_pages_read(site, runs):
    entries = f"dagRuns/{runs['hidden'].run_id}/taskInstances/ask/xcomEntries"
    assert site.get(f"/api/v2/dags/hidden/{entries}/usage", "viewer").status_code == 200
    assert site.get(f"/api/v2/dags/hidden/{entries}/usage", "stranger").status_code == 403

    everywhere = "/api/v2/dags/~/dagRuns/~/taskInstances/~/xcomEntries?xcom_key=usage&limit=100"
    seen = {
        user: {entry["dag_id"] for entry in site.get(everywhere, user).json()["xcom_entries"]}
        for user in ("viewer", "stranger")
    }
    assert seen == {"viewer": {"linked", "hidden"}, "stranger": {"linked"}}
