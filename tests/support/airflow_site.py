"""A whole Airflow with its UI, and users who log in: what a test in a browser looks at, and `make ui` too.

    with ChatServer(default=replies.ok("Hello")) as model, AirflowSite(home, model.url) as site:
        run = site.trigger("example_chat_quickstart")
        assert run.wait_state() == "success"
        browser.new_context().add_cookies([site.cookie("viewer")])
        page.goto(f"{site.url}/dags/{run.dag_id}/runs/{run.run_id}/tasks/ask")

The example DAGs are there, and those of ``dags``, the text of one more file. With ``prefix="/a/prefix"``, ``[api]
base_url`` has a path; so has ``site.url``. The users are in USERS, each with the password that `password` says. All but
the administrator may only read, and "stranger" sees no DAG whose id begins with "hidden": the REST API says 403 of it,
and lists leave it out. `site.trigger` and all other calls of AirflowProcess are made by the administrator;
``site.get(path, user)`` is one of another user, or of nobody (``None``).

It takes half a minute to start. Everything is ended on leaving.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
from importlib import metadata
from pathlib import Path

import httpx

from tests.support.airflow_process import START, AirflowProcess

ROOT = Path(__file__).resolve().parents[2]
USERS = {"admin": "admin", "viewer": "viewer", "stranger": "viewer"}
"""Their roles."""
HIDDEN = "hidden"
"""How the id of a DAG begins that "stranger" may not see."""
PLUGIN = "airflow_chat_provider.plugin:ChatPlugin"


class AirflowSite(AirflowProcess):
    """Started on entering, as AirflowProcess is."""

    def __init__(
        self,
        home: Path,
        model_url: str,
        *,
        dags: str = "",
        prefix: str = "",
        model: str = "m",
        environment: dict[str, str] | None = None,
    ) -> None:
        self.prefix = prefix
        connection = {"conn_type": "chat", "host": model_url, "password": "sk-test-ui", "extra": {"model": model}}
        passwords = home / "passwords.json"
        passwords.write_text(json.dumps({user: password(user) for user in USERS}), "utf-8")
        settings = {
            "AIRFLOW_CONN_CHAT_DEFAULT": json.dumps(connection),
            "AIRFLOW__CORE__AUTH_MANAGER": "tests.support.choosy_auth_manager.ChoosyAuthManager",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "False",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(passwords),
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": ",".join(f"{user}:{role}" for user, role in USERS.items()),
            # The examples are parsed every two minutes.
            "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "120",
            # Two of these at the same time would ask each other for their logs.
            "AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT": str(free_port()),
            "AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT": str(free_port()),
            "PYTHONPATH": os.pathsep.join([str(ROOT), *_entry_point(home), os.environ.get("PYTHONPATH", "")]),
        }
        super().__init__(home, dags, settings | (environment or {}))
        self.host_url = self.url
        self.url += prefix
        self._api.base_url = self.url
        self._environment["AIRFLOW__API__BASE_URL"] = self.url
        self._environment["AIRFLOW__CORE__EXECUTION_API_SERVER_URL"] = f"{self.url}/execution/"
        shutil.copytree(
            ROOT / "dags_examples", home / "dags" / "examples", ignore=shutil.ignore_patterns("__pycache__")
        )

    def token(self, user: str) -> str:
        """With which the REST API is called: ``Authorization: Bearer TOKEN``."""
        answer = self._api.post("/auth/token", json={"username": user, "password": password(user)})
        return str(answer.raise_for_status().json()["access_token"])

    def _token(self) -> str:
        return self.token("admin")

    def cookie(self, user: str) -> dict[str, str]:
        """What a browser has once its user has logged in, as Playwright's ``add_cookies`` takes it."""
        return {"name": "_token", "value": self.token(user), "url": self.host_url}

    def get(self, path: str, user: str | None, method: str = "GET") -> httpx.Response:
        """Ask for a path below ``url``."""
        headers = {"Authorization": f"Bearer {self.token(user)}"} if user else {}
        with httpx.Client(timeout=START, trust_env=False) as client:
            return client.request(method, f"{self.url}{path}", headers=headers)


def password(user: str) -> str:
    """Of one of USERS."""
    return f"{user}-password"


def free_port() -> int:
    """One on which nobody listens now."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


def _entry_point(home: Path) -> list[str]:
    """A folder that names the plugin to Airflow, where the package was installed before it had one."""
    if any(entry.value == PLUGIN for entry in metadata.entry_points(group="airflow.plugins")):
        return []
    folder = home / "entry_point"
    about = folder / "airflow_chat_plugin-0.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: airflow-chat-plugin\nVersion: 0\n", "utf-8")
    (about / "entry_points.txt").write_text(f"[airflow.plugins]\nairflow_chat = {PLUGIN}\n", "utf-8")
    return [str(folder)]
