"""A connection made, read, tested and exported by the real Airflow: its form, its REST API, its command line."""

import json
import sys
from importlib import metadata
from pathlib import Path
from unittest.mock import MagicMock

import airflow
import jsonschema
import pytest
from packaging.version import Version

from airflow_chat_provider.core.connection.fields import FIELDS
from airflow_chat_provider.hooks import ChatCompletionHook
from airflow_chat_provider.testing import replies

KEY = "sk-form-1234567890"
HEADER = "header-value-0987654321"
FORM_IN_PROVIDER_INFO = Version(metadata.version("apache-airflow")) >= Version("3.2")

pytestmark = [
    # Airflow's own, when it makes a hook for a connection test in the API server.
    pytest.mark.filterwarnings("ignore:ProvidersManager.hooks is deprecated"),
    # Starlette's test client.
    pytest.mark.filterwarnings("ignore:Using `httpx` with `starlette.testclient`"),
]
needs_form = pytest.mark.skipif(not FORM_IN_PROVIDER_INFO, reason="before Airflow 3.2 a form has no fields for extras")
masks_proxies = pytest.mark.skipif(not FORM_IN_PROVIDER_INFO, reason="before Airflow 3.2 a proxy's URL is shown")


@pytest.fixture(scope="module")
def api(airflow_db):
    """A client of the API server, of which everybody is the administrator."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS", "True")
        patch.setenv("AIRFLOW__CORE__TEST_CONNECTION", "Enabled")
        patch.setenv("AIRFLOW__API_AUTH__JWT_SECRET", "only for tests " * 5)
        from airflow.api_fastapi.app import create_app
        from fastapi.testclient import TestClient

        with TestClient(create_app(apps="core")) as client:
            token = client.get("/auth/token").json()["access_token"]
            client.headers["Authorization"] = f"Bearer {token}"
            yield client
    # hook_meta leaves stand-ins for what is not installed.
    for name in [name for name, module in sys.modules.items() if isinstance(module, MagicMock)]:
        del sys.modules[name]


@pytest.fixture
def form(api):
    """What the UI makes the form of our connection type from."""
    (ours,) = (kind for kind in api.get("/ui/connections/hook_meta").json() if kind["connection_type"] == "chat")
    return ours


@pytest.fixture
def store(api):
    """``store(conn_id, host=..., extra={...})``: a connection in the database; what the API says of it."""
    stored = []

    def post(conn_id, **parts):
        answer = api.post("/api/v2/connections", json=connection(conn_id, **parts))
        assert answer.status_code == 201, answer.text
        stored.append(conn_id)
        return answer.json()

    yield post
    for conn_id in stored:
        api.delete(f"/api/v2/connections/{conn_id}")


def connection(conn_id="form", *, host, extra=None, password=KEY):
    return {
        "connection_id": conn_id,
        "conn_type": "chat",
        "host": host,
        "password": password,
        "extra": json.dumps(extra or {}),
    }


def filled_in(form, **values):
    """The extras as the form stores them once one is touched: all of them."""
    return {name: field["value"] for name, field in form["extra_fields"].items()} | values


@needs_form
def test_the_form_has_a_field_for_each_extra(form):
    assert set(form["extra_fields"]) == set(FIELDS)
    for field in form["extra_fields"].values():
        assert field["schema"]["title"]
        assert field["description"]
        assert field["value"] is None


@needs_form
def test_the_form_asks_for_base_url_and_api_key_and_hides_what_is_not_used(form):
    fields = form["standard_fields"]
    assert fields["host"]["title"] == "Base URL"
    assert fields["password"]["title"] == "API key"
    assert {name for name, field in fields.items() if field and field["hidden"]} == {"url_schema", "port", "login"}


def test_the_hook_describes_the_form_of_older_airflow():
    path = Path(airflow.__path__[0]) / "customized_form_field_behaviours.schema.json"
    behaviour = ChatCompletionHook.get_ui_field_behaviour()
    jsonschema.validate(behaviour, json.loads(path.read_text("utf-8")))
    assert behaviour["relabeling"] == {"host": "Base URL", "password": "API key"}
    assert behaviour["hidden_fields"] == ["schema", "port", "login"]


@needs_form
def test_a_task_uses_a_connection_that_was_made_by_the_form(airflow, server, store, form):
    store(
        "by_form",
        host=server.url,
        extra=filled_in(
            form, model="form-model", auth="api-key", query={"api-version": "1"}, max_attempts=1, timeout=7
        ),
    )
    run = run_task(airflow, "by_form")
    assert run.state == "success"
    (request,) = server.requests
    assert request.json["model"] == "form-model"
    assert request.headers["api-key"] == KEY
    assert request.query == {"api-version": "1"}


@needs_form
def test_an_edit_of_the_masked_connection_keeps_its_secrets(airflow, api, server, store):
    shown = store("edited", host=server.url, extra={"model": "m", "headers": {"X-Api-Key": HEADER}})
    shown["extra"] = shown["extra"].replace('"m"', '"m2"')
    assert api.patch("/api/v2/connections/edited", json=shown).status_code == 200
    run_task(airflow, "edited")
    (request,) = server.requests
    assert request.json["model"] == "m2"
    assert request.headers["authorization"] == f"Bearer {KEY}"
    assert request.headers["x-api-key"] == HEADER


def run_task(airflow, conn_id):
    from airflow_chat_provider.operators import ChatCompletionOperator

    with airflow.dag():
        ChatCompletionOperator(task_id="ask", prompt="Hi", chat_conn_id=conn_id)
    return airflow.run()


@pytest.mark.parametrize(
    "extra",
    [
        {"headers": {"Authorization": HEADER}},
        {"query": {"api_key": HEADER}},
        pytest.param({"proxy": f"http://user:{HEADER}@127.0.0.1:9"}, marks=masks_proxies),
    ],
    ids=["a header", "a query parameter", "the proxy"],
)
def test_the_rest_api_masks_the_key_and_the_extras_that_are_secret_by_their_name(api, store, extra):
    store("masked", host="http://127.0.0.1:9/v1", extra=extra)
    shown = api.get("/api/v2/connections/masked")
    assert shown.json()["password"] == "***"
    assert KEY not in shown.text
    assert HEADER not in shown.text


@pytest.mark.parametrize(
    ("extra", "works", "says"),
    [
        ({"model": "test-model"}, True, "answers with 1 model: test-model"),
        ({"model": "other"}, True, "does not list the model 'other'; it has test-model"),
        ({"modle": "m"}, False, "did you mean 'model'"),
        ({"timeout": "soon"}, False, "timeout must be a number of seconds above 0"),
    ],
)
def test_the_test_button_says_what_was_found(api, server, extra, works, says):
    found = api.post("/api/v2/connections/test", json=connection(host=server.url, extra=extra)).json()
    assert found["status"] is works
    assert says in found["message"]
    assert [request.method for request in server.requests] == (["GET"] if works else [])


def test_the_test_button_says_why_a_key_was_refused_and_not_the_key(api, server):
    server._models = replies.error(401, f"no such key: {KEY}", "invalid_api_key")
    found = api.post("/api/v2/connections/test", json=connection(host=server.url)).json()
    assert found["status"] is False
    assert "Check the API key" in found["message"]
    assert KEY not in found["message"]


def test_the_test_button_shows_a_list_of_models_that_cannot_be_printed_as_it_is(api, server):
    server._models = replies.text(200, r'{"data": [{"id": "a\u0000b\ud800c\u001b[2J"}]}', "application/json")
    found = api.post("/api/v2/connections/test", json=connection(host=server.url))
    assert found.json() == {"status": True, "message": f"{server.url} answers with 1 model: a b c [2J"}


def test_the_test_button_tests_a_stored_connection_with_its_own_key(api, server, store):
    shown = store("stored", host=server.url)
    found = api.post("/api/v2/connections/test", json=shown).json()
    assert found["status"] is True
    if FORM_IN_PROVIDER_INFO:  # an older Airflow tests with the mask
        assert server.requests[0].headers["authorization"] == f"Bearer {KEY}"


@pytest.fixture
def command(airflow_db, monkeypatch):
    """The command line in this process: ``command("connections", "list")``."""
    from airflow.cli.cli_parser import get_parser

    monkeypatch.setenv("AIRFLOW__CORE__TEST_CONNECTION", "Enabled")

    def run(*arguments):
        parsed = get_parser().parse_args(arguments)
        parsed.func(parsed)

    return run


@pytest.mark.parametrize("serialization", ["uri", "json"])
def test_a_connection_that_was_exported_and_imported_is_the_same(server, command, tmp_path, monkeypatch, serialization):
    extra = {"model": "m", "headers": {"X-Team": "a/b c"}, "timeout": 7.5, "verify": False, "query": {"v": "2"}}
    made = {"conn_type": "chat", "host": server.url, "password": "sk/a+b:c@d 1", "extra": extra}
    command("connections", "add", "cli", "--conn-json", json.dumps(made))
    monkeypatch.setenv("AIRFLOW_CONN_CLI_MADE", json.dumps(made))
    command("connections", "export", str(tmp_path / "all.env"), "--serialization-format", serialization)
    command("connections", "delete", "cli")
    lines = dict(line.split("=", 1) for line in (tmp_path / "all.env").read_text().splitlines())
    monkeypatch.setenv("AIRFLOW_CONN_CLI", lines["cli"])
    exported, own = ChatCompletionHook("cli").settings, ChatCompletionHook("cli_made").settings
    assert (exported.base_url, exported.api_key) == (server.url, "sk/a+b:c@d 1")
    assert exported._replace(conn_id="") == own._replace(conn_id="")


def test_the_command_line_tests_a_connection(server, command, connect, capsys):
    command("connections", "test", connect(server.url, conn_id="tested", password=KEY))
    assert "Connection success!" in capsys.readouterr().out
    assert server.requests[0].headers["authorization"] == f"Bearer {KEY}"
