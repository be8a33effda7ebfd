"""One sample in a fresh process: `python fresh.py parse|reply CONTENDER` prints it as JSON.

Airflow itself is imported before the clock starts: every DAG file and every task pays for it.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

from airflow.sdk import DAG, BaseHook, BaseOperator  # noqa: F401
from airflow.sdk.bases.operator import ExecutorSafeguard
from airflow.sdk.log import configure_logging
from contenders import BY_NAME


class TaskInstance:
    """Takes XComs and forgets them."""

    try_number = 1

    def xcom_push(self, key, value):
        pass


def context():
    ti = TaskInstance()
    return {"ti": ti, "task_instance": ti, "params": {}}


def act_as_task():
    """Log as a task's process does: JSON into a file descriptor; and execute() may be called."""
    ExecutorSafeguard.test_mode = True
    configure_logging(json_output=True, output=Path(os.devnull).open("wb"))  # noqa: SIM115 - to the end
    sys.excepthook = sys.__excepthook__  # what goes wrong here is not for that log


def resident_mb():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def sample_parse(contender):
    """A DAG file with 100 tasks; the import, which it begins with, by itself as well."""
    code = compile(contender.dag(100), "dag.py", "exec")
    known, megabytes, began = set(sys.modules), resident_mb(), time.perf_counter()
    exec(contender.imports, {})
    imported, grown, third_party = time.perf_counter() - began, resident_mb() - megabytes, news(known)
    began = time.perf_counter()
    exec(code, {"__name__": "dag"})
    parsed = time.perf_counter() - began
    return {
        "ms": (imported + parsed) * 1e3,
        "import_ms": imported * 1e3,
        "import_mb": grown,
        "third_party": third_party,
    }


def news(known):
    """The packages of others that were not loaded before."""
    before, now = ({name.partition(".")[0] for name in names} for names in (known, set(sys.modules)))
    return sorted(now - before - set(sys.stdlib_module_names) - {"airflow_chat_provider", "sketch", "empty"})


def sample_reply(contender):
    act_as_task()
    given = context()
    began = time.perf_counter()
    names = {"task_id": "task"}
    exec(contender.imports, names)
    operator = eval(contender.call, names)
    operator.execute(given)
    return {"ms": (time.perf_counter() - began) * 1e3}


if __name__ == "__main__":
    SAMPLES = {"parse": sample_parse, "reply": sample_reply}
    print(json.dumps(SAMPLES[sys.argv[1]](BY_NAME[sys.argv[2]])))
