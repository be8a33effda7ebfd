"""The process that holds llama.cpp, and how ``local_server`` starts it.

It is a process of its own because xllamacpp keeps the GIL while it loads a model and while it stops a server,
and stopping waits for the replies under way: half a minute was seen, and a deadlock where the client was a
thread of the same process. A process can be ended at any time.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from importlib import import_module
from typing import IO, Any

LOG_ERRORS = 1
LOG_INFO = 3
PROMPT_CACHE_MIB = 256
"""llama.cpp's own default is 8 GiB."""


def start(settings: dict[str, Any], *, stderr: IO[str] | None) -> subprocess.Popen[str]:
    # By its path and with -P: it needs nothing of this package, which a new interpreter may not find.
    command = [sys.executable, "-P", __file__, json.dumps(settings)]
    # In a session of its own a Ctrl-C does not reach it. It watches its stdin to end with us.
    return subprocess.Popen(  # noqa: S603 - our own file
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
        start_new_session=True,
    )


def wait_for_address(process: subprocess.Popen[str], log: IO[str]) -> str:
    """Where it listens, once the model is loaded. RuntimeError says why it does not."""
    assert process.stdout is not None  # noqa: S101 - for the type checker
    if line := process.stdout.readline():
        address: str = json.loads(line)["address"]
        return address
    code = process.wait()
    log.seek(0)
    raise RuntimeError(_reason(log.read()) or f"it ended with exit code {code}")


def _reason(log: str) -> str:
    """llama.cpp's first error, as the next ones say only that something failed; else Python's last line."""
    if error := re.search(r"^[\d.]+ E [^:\n]*: (.+)", log, re.MULTILINE):
        return error[1]
    return log.strip().rpartition("\n")[2]


def parameters(settings: dict[str, Any]) -> Any:
    """As many threads as cores would be faster on an idle machine only. They wait for each other by spinning:
    with one busy process beside them (Airflow, say) 100 tokens/s became 5 on two cores, where one thread kept 50.
    """
    params = import_module("xllamacpp").CommonParams()
    params.model.path = settings["path"]
    params.model_alias = {settings["model"]}
    params.hostnames = [settings["host"]]
    params.port = settings["port"]
    params.n_parallel = settings["parallel"]
    params.n_ctx = settings["ctx"] * settings["parallel"]  # it is shared out evenly
    params.verbosity = LOG_INFO if settings["verbose"] else LOG_ERRORS
    params.cache_ram_mib = PROMPT_CACHE_MIB
    params.ui = False
    params.endpoint_slots = False  # shows the prompts of others
    params.cors_origins = ""  # or any web page that the user opens could read the replies
    threads = settings["threads"] or max(1, (os.cpu_count() or 1) // 2)
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
    return params


def main() -> None:
    report = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a library prints must not be taken for our one line
    try:
        server = import_module("xllamacpp").Server(parameters(json.loads(sys.argv[1])))
    except RuntimeError as error:  # llama.cpp has just written the reason to stderr
        sys.exit(str(error))
    report.write(json.dumps({"address": server.listening_address}) + "\n")
    report.flush()
    sys.stdin.buffer.read()  # returns when the parent is gone, however it ended
    os._exit(0)  # an orderly exit would wait for the replies under way


if __name__ == "__main__":
    main()
