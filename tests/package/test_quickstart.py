"""A new user types what the page says, in an empty folder, and sees what the page shows."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from airflow_chat_provider.testing import ChatServer, replies
from tests.support.documents import Block, blocks

# They need the network, or run until they are stopped. The wheel is installed by `make wheel-test`.
LEFT_OUT = ("python3 -m venv", "source ", "pip install", "airflow standalone", "python -m airflow_chat_provider.local")
A_URI = "export AIRFLOW_CONN_CHAT_DEFAULT='chat:"  # leads elsewhere
ANSWER = re.compile(r"^The answer: (.+)$", re.MULTILINE)


def commands(block: Block) -> list[tuple[str, list[str]]]:
    """Each command of a console, with the lines that the page shows below it."""
    found: list[tuple[str, list[str]]] = []
    for line in block.text.splitlines():
        if line.startswith("$ "):
            found.append((line[2:], []))
        elif line:
            found[-1][1].append(line)
    return [(command, shown) for command, shown in found if not command.startswith((*LEFT_OUT, A_URI))]


def to_server(command: str, server: ChatServer) -> str:
    """The same connection, but to the test server."""
    host, model = json.dumps(server.url), "SmolLM2-135M-Instruct.Q4_1"
    command = command.replace('"conn_type": "chat"', f'"conn_type": "chat", "host": {host}')
    command = command.replace("--conn-type chat", f"--conn-type chat --conn-host {server.url}")
    return command.replace("gpt-5.4-mini", model)


def like(line: str) -> str:
    """A pattern for a line of output, whose numbers differ from run to run."""
    return re.sub(r"\d+(?:\\\.\d+)?(?= )", r"[0-9.]+", re.escape(line).replace(r"\ ", " "))


@pytest.mark.slow
def test_the_quickstart_ends_with_the_answer_on_the_screen(
    project: Path, tmp_path: Path, chat_server: ChatServer
) -> None:
    page = blocks(project, project / "docs" / "quickstart.md")
    (dag,) = (block for block in page if block.kind == "dag")
    (answer,) = (found for block in page for found in ANSWER.findall(block.text))
    chat_server.default = replies.ok(answer, usage={"prompt_tokens": 30, "completion_tokens": 37, "total_tokens": 67})
    script, expected = ["set -e"], []
    for block in page:
        for command, shown in commands(block) if block.kind == "console" else ():
            if "--conf" in command:
                script.append("unset AIRFLOW_CONN_CHAT_DEFAULT")  # from here on the one in the database counts
            script += [f"echo {shlex.quote(f'$ {command}')}", to_server(command, chat_server)]
            expected.append((command, shown))
        if block == dag:  # after the commands that make its folder
            script.append(f"cat >{dag.place} <<'END'\n{dag.text}END")
    output = run("\n".join(script), tmp_path)
    for command, shown in expected:
        printed = output.partition(f"$ {command}\n")[2].partition("\n$ ")[0]
        for line in shown:
            assert re.search(like(line), printed), f"{line!r} is not in what `{command}` printed:\n{printed}"
    assert [request.json["messages"][1]["content"] for request in chat_server.requests] == [
        "What are data pipelines good for?",
        "What are data pipelines good for?",
        "What are tea breaks good for?",
    ]


def run(script: str, folder: Path) -> str:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW_")} | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(Path(__file__).resolve().parents[2]),
    }
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=900,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout
