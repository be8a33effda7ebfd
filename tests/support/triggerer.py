"""One real triggerer and its database: `python triggerer.py CONTENDER COUNT BYTES` prints one sample as JSON.

A test and a benchmark run it.
COUNT tasks of a run are put into the state that a worker leaves behind when it defers; then ``airflow triggerer``
starts. BYTES is the length of the prompt. With a fourth argument, ``sent``, all requests were under way when an earlier
triggerer ended.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

_PATIENCE = 120.0
_BOUND = 150  # seconds, with all that is prepared
_TRIGGERER = """
import ctypes, sys
ctypes.CDLL(None).prctl(1, 9)  # PR_SET_PDEATHSIG: who kills this script, kills the triggerer
sys.argv = ["airflow", "triggerer", "--skip-serve-logs"]  # its log server would listen on all interfaces
from airflow.__main__ import main
main()
"""


def main():
    contender, count, size = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    for number in (signal.SIGTERM, signal.SIGALRM):  # so that the triggerer, in its own session, ends as well
        signal.signal(number, lambda number, _: sys.exit(f"ended by signal {number}"))
    signal.alarm(_BOUND)
    home = Path(os.environ["AIRFLOW_HOME"])
    dag_id = prepare(home, contender, count, request(size))
    with triggerer(home) as process:
        first, last, began = clock(count)
        seconds = [spent for _, spent in of_session(process.pid)]  # the supervisor's, and the event loop's
    check(dag_id, contender)
    print(json.dumps({"start": first - began, "seconds": last - first, "cpu": sum(seconds), "processes": seconds}))


def request(size):
    return {"model": "test-model", "messages": [{"role": "user", "content": "x" * size}]}


def prepare(home, contender, count, request):
    """A run whose tasks are all deferred."""
    dags = Path(os.environ["AIRFLOW__CORE__DAGS_FOLDER"])
    dags.mkdir(parents=True, exist_ok=True)
    file = dags / f"deferred_{contender}_{count}_{len(json.dumps(request))}.py"
    file.write_text(
        "from airflow.sdk import DAG\nfrom airflow_chat_provider.operators import ChatCompletionOperator\n"
        f"with DAG({file.stem!r}, schedule=None):\n"
        f"    ChatCompletionOperator.partial(task_id='ask').expand(prompt={[str(n) for n in range(count)]!r})\n",
        "utf-8",
    )
    if not (home / "airflow.db").exists():
        subprocess.run([sys.executable, "-m", "airflow", "db", "migrate"], check=True, capture_output=True)
    dag_id = make_run(file)
    defer(dag_id, contender, request)
    return dag_id


def make_run(file):
    """The run as the scheduler would make it; its task instances are there with it."""
    from airflow.dag_processing.bundles.manager import DagBundlesManager
    from airflow.dag_processing.dagbag import DagBag, sync_bag_to_db
    from airflow.models.dagbag import DBDagBag
    from airflow.utils import timezone  # type: ignore[attr-defined]
    from airflow.utils.session import create_session
    from airflow.utils.state import DagRunState
    from airflow.utils.types import DagRunTriggeredByType, DagRunType

    DagBundlesManager().sync_bundles_to_db()
    sync_bag_to_db(DagBag(str(file)), "dags-folder", None)
    now = timezone.utcnow()
    with create_session() as session:
        dag = DBDagBag().get_latest_version_of_dag(file.stem, session=session)
        dag.create_dagrun(  # type: ignore[union-attr]
            run_id="r",
            run_after=now,
            logical_date=now,
            data_interval=(now, now),
            run_type=DagRunType.MANUAL,
            triggered_by=DagRunTriggeredByType.TEST,
            state=DagRunState.RUNNING,
            session=session,
        )
    return file.stem


def defer(dag_id, contender, request):
    from airflow.models.taskinstance import TaskInstance
    from airflow.models.trigger import Trigger
    from airflow.models.xcom import XComModel
    from airflow.utils.session import create_session
    from sqlalchemy import select

    from airflow_chat_provider.airflow_api.xcom import Slot
    from airflow_chat_provider.core.answer.dialogue import Wanted
    from airflow_chat_provider.core.answer.result import Delivery
    from airflow_chat_provider.durable.entry import KEY, Deferred, Entry
    from airflow_chat_provider.durable.journal import Journal

    limits = {"timeout": 600.0, "deadline": 1800.0, "max_attempts": 3}
    where = {"chat_conn_id": "chat_default", "base_url": "http://127.0.0.1"}
    how = Delivery()._asdict()
    deferred = Deferred(limits, request, None, 0, Wanted().to_dict(), how, where, {"idempotency_key": "a key"})
    entry = Entry.from_deferred(deferred, "a key")
    if sys.argv[4:] == ["sent"]:
        entry = entry.sent("gone", "a key", 1, 0.0)
    with create_session() as session:
        for ti in session.scalars(select(TaskInstance).filter_by(dag_id=dag_id)).all():
            path, arguments = trigger_of(contender, dag_id, ti.map_index, request).serialize()
            trigger = Trigger(classpath=path, kwargs=arguments)
            session.add(trigger)
            session.flush()
            ti.state, ti.try_number, ti.trigger_id = "deferred", 1, trigger.id
            ti.next_method, ti.next_kwargs = "execute_complete", {}
            if contender == "ours":
                journal = Journal.from_slot(Slot(KEY, dag_id, "r", "ask", ti.map_index), 1)
                for slot, value in journal.writing(entry):
                    XComModel.set(value=value, serialize=False, session=session, **slot._asdict())


def trigger_of(contender, dag_id, map_index, request):
    if contender == "ours":
        from airflow_chat_provider.triggers import ChatCompletionTrigger

        return ChatCompletionTrigger(dag_id=dag_id, run_id="r", task_id="ask", map_index=map_index)
    from airflow.providers.http.triggers.http import HttpTrigger  # type: ignore[import-not-found]

    return HttpTrigger(
        http_conn_id="http",
        endpoint="chat/completions",
        method="POST",
        data=json.dumps(request),
        headers={"Content-Type": "application/json"},
    )


@contextlib.contextmanager
def triggerer(home):
    with (home / "triggerer.log").open("wb") as log:
        process = subprocess.Popen([sys.executable, "-c", _TRIGGERER], stdout=log, stderr=log, start_new_session=True)
        try:
            yield process
        finally:
            for pid, _ in of_session(process.pid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            process.wait()


def clock(count):
    """When the first and the last task went on, and when the clock was started."""
    began = first = time.monotonic()
    left = count
    while left:
        before, left = left, len(column("map_index", state="deferred"))
        now = time.monotonic()
        if before == count and left < count:
            first = now
        if now - began > _PATIENCE:
            raise TimeoutError(f"{left} of {count} tasks are still deferred")
        time.sleep(0.05)
    return first, time.monotonic(), began


def check(dag_id, contender):
    """A trigger that failed at once would be the fastest."""
    if contender == "ours" and sys.argv[4:] != ["sent"]:
        left, wanted = column("state", dag_id=dag_id), "success"
    else:
        left = [json.dumps(kwargs) for kwargs in column("next_kwargs", dag_id=dag_id)]
        wanted = '"state": "uncertain"' if contender == "ours" else '"status": "success"'
    wrong = [found for found in left if wanted not in found]
    if wrong:
        raise RuntimeError(f"{len(wrong)} of {len(left)} calls failed: {wrong[0][:500]}")


def column(name, **where):
    """Of all task instances there."""
    from airflow.models.taskinstance import TaskInstance
    from airflow.utils.session import create_session
    from sqlalchemy import select

    with create_session() as session:
        return session.scalars(select(getattr(TaskInstance, name)).filter_by(**where)).all()


def of_session(leader):
    tick = os.sysconf("SC_CLK_TCK")
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            if int(fields[3]) == leader:
                yield int(folder.name), (int(fields[11]) + int(fields[12])) / tick


if __name__ == "__main__":
    main()
