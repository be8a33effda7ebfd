"""Servers as programs: started on a free port of loopback, awaited, and ended with all that they started."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from tests.support.calling import free_port

__all__ = ["Missing", "free_port", "program", "version_of"]

STOP_SECONDS = 10.0
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class Missing(Exception):
    """The server cannot be had here. The text says why."""


@contextlib.contextmanager
def program(
    command: Sequence[object],
    ready: str,
    *,
    log: Path,
    seconds: float,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> Iterator[None]:
    """Inside, ``ready`` (a URL) is answered, and not by "not yet" (503). Missing if it is not within ``seconds``."""
    if not Path(str(command[0])).exists():
        raise Missing(f"{Path(str(command[0])).name} is not installed")
    # Ends with this process, even where that is killed.
    tied = [shutil.which("setpriv") or "", "--pdeathsig", "KILL"]
    words = [*(tied if tied[0] else ()), *map(str, command)]
    with log.open("wb") as out:
        process = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(env or {})},
            cwd=cwd or log.parent,
            start_new_session=True,
        )
    try:
        _wait(process, ready, log, seconds)
        yield
    finally:
        _end(process)


def _wait(process: subprocess.Popen[bytes], ready: str, log: Path, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise Missing(f"it ended by itself with exit code {process.returncode}: {_last_line(log)}")
        try:
            with DIRECT.open(ready, timeout=5):
                return
        except urllib.error.HTTPError as error:
            if error.code != 503:
                return
        except OSError:
            pass
        time.sleep(0.2)
    raise Missing(f"it did not answer within {seconds:.0f} s: {_last_line(log)}")


def _last_line(log: Path) -> str:
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1].strip()[:200] if lines else "its log is empty"


def _end(process: subprocess.Popen[bytes]) -> None:
    """The whole group: what a program started may outlive it."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(STOP_SECONDS)


def version_of(python: Path, package: str) -> str:
    """The installed version, as that environment knows it."""
    if not python.exists():
        raise Missing(
            f"{python.parent.parent.name} is not there: see what `make test-servers` said of its installation"
        )
    code = "import sys; from importlib.metadata import version; print(version(sys.argv[1]))"
    done = subprocess.run([python, "-c", code, package], capture_output=True, text=True, check=False, timeout=60)
    if done.returncode:
        raise Missing(f"{package} is not installed in {python.parent.parent.name}")
    return done.stdout.strip()
