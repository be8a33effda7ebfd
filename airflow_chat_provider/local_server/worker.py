"""The process that runs llama.cpp, and how ``local_server`` starts it.

It is a process of its own because xllamacpp holds the GIL while it loads a model and while it stops a server. Stopping
waits for the replies under way: that took half a minute, and ended in a deadlock if the client was a thread of the same
process. A process of its own can be ended at any time.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from importlib import import_module
from typing import IO, Any

PROMPT_CACHE_MIB = 256
"""llama.cpp's own default is 8 GiB."""


def start(settings: dict[str, Any], *, stderr: IO[str] | None) -> subprocess.Popen[str]:
    # By its path and with -P: it needs nothing from this package, which a new interpreter may not find.
    command = [sys.executable, "-P", __file__, json.dumps(settings)]
    # In a session of its own, a Ctrl-C does not reach it. It ends when its stdin closes, that is with this process.
    return subprocess.Popen(  # noqa: S603 - our own file
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
        start_new_session=True,
    )


def wait_for_address(process: subprocess.Popen[str], log: IO[str]) -> str:
    """The address where it listens, once the model is loaded. Raises RuntimeError with the reason if it does not."""
    assert process.stdout is not None  # noqa: S101 - for the type checker
    if line := process.stdout.readline():
        address: str = json.loads(line)["address"]
        return address
    code = process.wait()
    log.seek(0)
    raise RuntimeError(_reason(log.read()) or f"it ended with exit code {code}")


def _reason(log: str) -> str:
    """llama.cpp's first error (the next ones say only that something failed); else the last line, which is Python's."""
    if error := re.search(r"^[\d.]+ E [^:\n]*: (.+)", log, re.MULTILINE):
        return error[1]
    return log.strip().rpartition("\n")[2]


def parameters(settings: dict[str, Any]) -> Any:
    """The parameters of llama.cpp, by default with a thread for every second core.

    A thread for every core is faster only on an idle machine, because the threads wait for each other by spinning:
    beside one busy process (Airflow, say) 100 tokens/s became 5 on two cores, while a single thread kept 50.
    """
    params = import_module("xllamacpp").CommonParams()
    params.model.path = settings["path"]
    params.model_alias = {settings["model"]}
    params.hostnames = [settings["host"]]
    params.port = settings["port"]
    params.n_parallel = settings["parallel"]
    params.n_ctx = settings["ctx"] * settings["parallel"]  # llama.cpp divides it by n_parallel
    params.verbosity = 3 if settings["verbose"] else 1  # all that it does, or errors alone
    params.cache_ram_mib = PROMPT_CACHE_MIB
    params.ui = False
    params.endpoint_slots = False  # it would show the prompts of others
    params.cors_origins = ""  # otherwise any web page that the user opens could read the replies
    threads = settings["threads"] or max(1, (os.cpu_count() or 1) // 2)
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
    return params


def main() -> None:
    report = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints must not be taken for our line with the address
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
