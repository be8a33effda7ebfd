"""The pytest plugin in a user's project: a pytest of its own, in a folder with nothing but the user's files."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

# What the README tells a user to do, in an Airflow that was never used before.
HEADING = "\n## Testing your DAGs\n"

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


def test_the_environment_is_as_it_was():
    assert os.environ[NAME] == "before"
    assert os.environ["NO_PROXY"] == "example.com"


def test_airflow_is_not_needed(chat_server):
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
def test_the_example_in_the_readme(project: Path, user: Path, environment: dict[str, str]) -> None:
    section = (project / "README.md").read_text("utf-8").partition(HEADING)[2].partition("\n## ")[0]
    names = re.findall(r"`([\w/]+\.py)`", section)
    files = re.findall(r"```python\n(.+?)```", section, re.DOTALL)
    (commands,) = re.findall(r"```console\n(.+?)```", section, re.DOTALL)
    for name, text in zip(names, files, strict=True):
        (user / name).parent.mkdir(exist_ok=True)
        (user / name).write_text(text, "utf-8")

    script = "".join(line.removeprefix("$ ") + "\n" for line in commands.splitlines())
    output = run(["bash", "-euc", script], user, environment)

    assert names == ["dags/summary.py", "test_summary.py"]
    assert len(files[1].splitlines()) == 10
    assert "1 passed" in output


def test_the_connection_is_there_for_the_test_alone_and_nothing_is_imported_early(
    user: Path, environment: dict[str, str]
) -> None:
    (user / "test_mine.py").write_text(TESTS, "utf-8")
    before = {"AIRFLOW_CONN_CHAT_DEFAULT": "before", "NO_PROXY": "example.com"}
    kept = {name: value for name, value in environment.items() if name != "no_proxy"}
    output = run([sys.executable, "-m", "pytest", "-W", "error"], user, kept | before)
    assert "4 passed" in output
