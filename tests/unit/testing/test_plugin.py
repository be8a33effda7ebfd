"""The pytest plugin in a user's project: a pytest of its own, in a folder with nothing but the user's files."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.documents import blocks

TESTS = """
import json
import os
import sys

NAME = "AIRFLOW_CONN_CHAT_DEFAULT"
HEAVY = {"airflow", "httpx", "airflow_chat_provider.testing.server"}


def test_nothing_is_imported_before_it_is_used():
    assert not HEAVY & set(sys.modules)


def test_the_connection_leads_to_the_server(chat_server):
    assert json.loads(os.environ[NAME]) == chat_server.connection
    assert chat_server.connection["host"] == chat_server.url
    assert "127.0.0.1" in os.environ["NO_PROXY"].split(",")


def test_the_connection_leads_to_the_server_with_a_batch_api(batch_server):
    assert json.loads(os.environ[NAME]) == batch_server.connection
    assert batch_server.connection["host"] == batch_server.url


def test_the_environment_is_as_it_was():
    assert os.environ[NAME] == "before"
    assert os.environ["NO_PROXY"] == "example.com"


def test_airflow_is_not_needed(chat_server, batch_server):
    assert not {"airflow", "httpx"} & set(sys.modules)
"""


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """That of a user who has this package, and no Airflow home yet."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")}
    path = f"{Path(sys.executable).parent}{os.pathsep}{kept['PATH']}"
    (tmp_path / "tmp").mkdir()
    return kept | {"PATH": path, "TMPDIR": str(tmp_path / "tmp")}


@pytest.fixture
def user(tmp_path: Path) -> Path:
    """The folder of a user's project."""
    folder = tmp_path / "project"
    folder.mkdir()
    return folder


def run(command: list[str], folder: Path, environment: dict[str, str]) -> str:
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_the_page_about_testing_as_a_user_follows_it(project: Path, user: Path, environment: dict[str, str]) -> None:
    page = blocks(project, project / "docs" / "testing.md")
    for block in page:
        if block.file is not None:
            (user / block.file).parent.mkdir(exist_ok=True)
            (user / block.file).write_text(block.text, "utf-8")
    (commands,) = (block.text for block in page if block.language == "console")

    script = "".join(line.removeprefix("$ ") + "\n" for line in commands.splitlines())
    output = run(["bash", "-euc", script], user, environment)

    tests = sum(block.text.count("\ndef test_") for block in page)
    assert f"{tests} passed" in output


def test_the_connection_is_there_for_the_test_alone_and_nothing_is_imported_early(
    user: Path, environment: dict[str, str]
) -> None:
    (user / "test_mine.py").write_text(TESTS, "utf-8")
    before = {"AIRFLOW_CONN_CHAT_DEFAULT": "before", "NO_PROXY": "example.com"}
    kept = {name: value for name, value in environment.items() if name != "no_proxy"}
    output = run([sys.executable, "-m", "pytest", "-W", "error"], user, kept | before)
    assert "5 passed" in output
