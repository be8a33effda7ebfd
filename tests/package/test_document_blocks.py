"""Every code block of README and of the documentation works as it stands: see `tests/support/documents.py`."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from airflow_chat_provider.hooks import ChatCompletionHook
from airflow_chat_provider.testing import BatchServer
from tests.support.documents import Block, blocks, pages
from tests.support.obliging import answer_to, obliging
from tests.support.running import Run, load_dags

PROJECT = Path(__file__).resolve().parents[2]
BLOCKS = [block for page in pages(PROJECT) for block in blocks(PROJECT, page)]
LONGEST = 600  # seconds for a run of pytest that starts Airflow, on a machine that is busy


def those(*kinds: str, limits: tuple[str | None, ...] = (None,)) -> list[Any]:
    """As parameters of a test."""
    return [pytest.param(one, id=one.name) for one in BLOCKS if one.kind in kinds and one.limit in limits]


def connections(*kinds: str) -> list[Any]:
    return [
        pytest.param(value, id=f"{block.name}-{number}")
        for block in BLOCKS
        if block.kind in kinds and block.limit is None
        for number, value in enumerate(block.connections)
    ]


@pytest.fixture
def obliging_server(batch_server: BatchServer) -> BatchServer:
    batch_server.default = obliging
    batch_server.answer = answer_to
    return batch_server


@pytest.fixture
def unpack(tmp_path: Path, obliging_server: BatchServer, monkeypatch: pytest.MonkeyPatch) -> Callable[[Block], Path]:
    """Write a block into its file, with all that its page gave before it. Its connections lead to the server."""

    def write(block: Block) -> Path:
        for earlier in BLOCKS:
            if earlier.page == block.page and earlier.line <= block.line and (earlier.file or earlier == block):
                file = tmp_path / earlier.place
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(earlier.text, "utf-8")
        for conn_id in re.findall(r"(?:chat_conn_id=|ChatCompletionHook\()\"(\w+)\"", block.text):
            monkeypatch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", json.dumps(obliging_server.connection))
        monkeypatch.chdir(tmp_path)
        monkeypatch.syspath_prepend(str(tmp_path / "dags"))
        return tmp_path / block.place

    return write


def test_readme_and_the_documentation_have_blocks_of_each_kind() -> None:
    assert {"dag", "test", "script", "json", "console"} <= {block.kind for block in BLOCKS}


def test_each_limit_is_written_as_the_tests_read_it() -> None:
    written = sum(len(re.findall(r"<!--\s*(?:not run|only)", page.read_text("utf-8"))) for page in pages(PROJECT))
    assert written == sum(block.limit is not None for block in BLOCKS)


@pytest.mark.parametrize("block", those("dag"))
def test_a_dag_of_a_page_runs_as_it_stands(
    block: Block, unpack: Callable[[Block], Path], run_dag: Callable[..., Any]
) -> None:
    dags = load_dags(unpack(block))
    assert dags
    for dag in dags.values():
        finished = Run(run_dag(dag))
        assert finished.state == "success", finished.states()


@pytest.mark.parametrize("block", those("dag", "script", limits=("only imported",)))
def test_a_dag_of_a_page_that_cannot_run_here_is_imported(block: Block, unpack: Callable[[Block], Path]) -> None:
    assert load_dags(unpack(block))


@pytest.mark.parametrize("block", those("script"))
def test_a_script_of_a_page_runs_as_it_stands(block: Block, unpack: Callable[[Block], Path]) -> None:
    code = compile(block.text, unpack(block), "exec", dont_inherit=True)
    names: dict[str, Any] = {"__name__": "__main__"}
    exec(code, names)
    for hook in names.values():
        if isinstance(hook, ChatCompletionHook):
            hook.close()


@pytest.fixture(scope="module")
def fresh_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new user's Airflow."""
    home = tmp_path_factory.mktemp("home")
    _run(home, "-m", "airflow", "db", "migrate", environment=_environment(home, home))
    return home


def _environment(home: Path, folder: Path) -> dict[str, str]:
    ours = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW__", "PYTEST_"))}
    return ours | {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__DAGS_FOLDER": str(folder / "dags"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "PYTHONPATH": os.pathsep.join([str(PROJECT), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]),
        "PYTHONWARNINGS": "ignore",
    }


def _run(folder: Path, *command: str, environment: dict[str, str]) -> None:
    done = subprocess.run(
        [sys.executable, *command],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=LONGEST,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("block", those("test"))
def test_a_test_of_a_page_passes_with_what_the_page_gave_before_it(
    block: Block, unpack: Callable[[Block], Path], fresh_home: Path, tmp_path: Path
) -> None:
    file = unpack(block)
    (tmp_path / "dags").mkdir(exist_ok=True)
    environment = _environment(fresh_home, tmp_path)
    _run(tmp_path, "-m", "airflow", "dags", "reserialize", environment=environment)
    _run(tmp_path, "-m", "pytest", "-p", "no:cacheprovider", str(file), environment=environment)


@pytest.mark.parametrize("block", those("json"))
def test_a_json_block_is_json(block: Block) -> None:
    json.loads(block.text)


RECIPES = [one for one in BLOCKS if one.kind == "json" and one.limit is None and "conn_type" in one.text]


@pytest.mark.parametrize(
    "value",
    [*(pytest.param(one.text, id=one.name) for one in RECIPES), *connections("console", "bash", "sh", "ini", "text")],
)
def test_a_connection_of_a_page_can_make_a_call_as_it_stands(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_PASTED", value)
    settings = ChatCompletionHook("pasted").settings
    assert settings.model, "without a model, only a task that names one can use it"


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(arguments, id=f"{block.name}-{' '.join(arguments[:3])}")
        for block in BLOCKS
        if block.kind in ("console", "bash", "sh") and block.limit is None
        for arguments in block.airflow_commands
    ],
)
def test_a_command_of_airflow_on_a_page_has_arguments_that_airflow_takes(arguments: list[str]) -> None:
    from airflow.cli.cli_parser import get_parser

    get_parser().parse_args(arguments)


def test_each_block_that_is_not_run_says_why(capsys: pytest.CaptureFixture[str]) -> None:
    limited = [f"{block.name}: {block.limit}: {block.reason}" for block in BLOCKS if block.limit]
    with capsys.disabled():
        if limited:
            print("\nBlocks with a limit:", *limited, sep="\n  ")  # noqa: T201 - so that a reader sees them grow
    assert all(len(line.split(": ", 2)[2]) > 10 for line in limited)
