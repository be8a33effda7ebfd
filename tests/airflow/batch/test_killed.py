"""A batch whose process is killed, again and again, at any moment."""

import contextlib
import json
import random
import signal
import subprocess
import sys
import time
from collections import Counter

import pytest

from airflow_chat_provider.airflow_api.compat import exceptions
from airflow_chat_provider.testing import faults, replies
from tests.support.batching import prompt_of

KILLS, ROWS, CONCURRENCY = 20, 1000, 8
REFUSED_EACH = 50
"""Every such row is refused until the end, so that there are failed rows to ask for again, too."""


@contextlib.contextmanager
def alarm(seconds, end):
    """Calls `end` as a signal handler, so many seconds from now."""
    before = signal.signal(signal.SIGALRM, end)
    try:
        signal.setitimer(signal.ITIMER_REAL, seconds)
        yield
    finally:
        signal.signal(signal.SIGALRM, before)


class Killed:
    """A batch in processes of its own."""

    def __init__(self, batch, project):
        self.batch = batch
        self._command = [sys.executable, "-m", "tests.support.one_try", batch.input, batch.output, str(CONCURRENCY)]
        self._project = project

    def start(self):
        return subprocess.Popen(self._command, cwd=self._project, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)

    def recorded(self):
        """The prompts of the rows whose result is whole in the file."""
        with contextlib.suppress(FileNotFoundError):
            content = (self.batch.output / "results.jsonl").read_bytes()
            whole = [json.loads(line) for line in content.split(b"\n")[:-1]]
            return [line["row"]["text"] for line in whole]
        return []


@pytest.fixture
def killed(batch, project):
    return Killed(batch, project)


@pytest.mark.slow
def test_every_row_ends_with_one_result_and_is_paid_for_once_whenever_the_process_is_killed(killed):
    batch, chance = killed.batch, random.Random(20)
    batch.texts(ROWS)
    batch.chat.default = _refusing(batch.chat)
    for _ in range(KILLS):
        seen, before = len(batch.chat.requests), set(killed.recorded())
        with killed.start() as process:
            # Half of the moments are while requests are under way, half any time from the start on.
            if chance.random() < 0.5:
                assert batch.chat.wait_requests(seen + chance.randint(1, 40), 30)
                time.sleep(chance.random() * 0.1)
            else:
                time.sleep(chance.random() * 2)
            process.send_signal(signal.SIGKILL)
        asked = Counter(map(prompt_of, batch.chat.requests[seen:]))
        recorded = killed.recorded()
        assert len(set(recorded)) == len(recorded)
        assert before <= set(recorded)
        assert not before & set(asked), "asked for again although its result was recorded"
        lost = [prompt for prompt in asked if prompt not in recorded and not _is_refused(prompt)]
        assert len(lost) <= CONCURRENCY
    assert len(killed.recorded()) < ROWS - ROWS / REFUSED_EACH, "it was done before it was killed often enough"
    batch.chat.default = replies.ok()
    manifest = batch.run(max_failures=None)
    assert (manifest["succeeded"], manifest["usage"]["total_tokens"]) == (ROWS, 11 * ROWS)
    assert [line["index"] for line in batch.results] == list(range(ROWS))
    assert batch.errors == []
    twice = sum(count - 1 for prompt, count in batch.times.items() if not _is_refused(prompt))
    assert twice <= KILLS * CONCURRENCY


def _is_refused(prompt):
    return int(prompt.split()[1]) % REFUSED_EACH == 0


def _refusing(chat):
    def answer(request):
        time.sleep(0.05)
        return replies.error(400, "no") if _is_refused(prompt_of(request)) else replies.ok()

    return answer


def test_a_task_that_is_ended_closes_its_sockets_and_keeps_what_came(batch):
    batch.texts(4)
    batch.chat.script(replies.ok(), replies.ok())
    batch.chat.default = faults.hang()
    task = batch.task(max_concurrency=1)

    def end(*_):
        assert batch.chat.wait_requests(3, 30)
        task.on_kill()

    with alarm(1.0, end), pytest.raises(exceptions.AirflowException, match="and continues from here"):
        batch.execute(task)
    assert batch.chat.wait_closed()
    assert len(batch.results) == 2


def test_a_timeout_of_the_task_ends_it_and_keeps_what_came(batch):
    class TimeOut(BaseException):
        """As Airflow's own, which is no Exception either."""

    def end(*_):
        assert batch.chat.wait_requests(3, 30)
        raise TimeOut

    batch.texts(4)
    batch.chat.script(replies.ok(), replies.ok())
    batch.chat.default = faults.hang()
    with alarm(1.0, end), pytest.raises(TimeOut):
        batch.run(max_concurrency=1)
    assert batch.chat.wait_closed()
    assert len(batch.results) == batch.pushed["usage"]["requests"] == batch.pushed["return_value"]["succeeded"] == 2


def test_a_task_that_is_ended_while_a_row_is_asked_again_keeps_the_answer_that_did_not_fit(batch):
    batch.texts(2)
    batch.chat.script(replies.ok("not JSON"))
    batch.chat.default = faults.hang()
    given = {"response_schema": {"type": "object"}, "result_format": "json"}
    task = batch.task(max_concurrency=1, **given)

    def end(*_):
        assert batch.chat.wait_requests(2, 30)
        task.on_kill()

    with alarm(0.5, end), pytest.raises(exceptions.AirflowException, match="and continues from here"):
        batch.execute(task)
    (line,) = batch.errors
    assert line["body"]["choices"][0]["message"]["content"] == "not JSON"
    assert line["usage"]["total_tokens"] == 11
    batch.chat.default = replies.ok("{}")
    manifest = batch.run(**given)
    assert (manifest["succeeded"], manifest["usage"]["total_tokens"]) == (2, 33)
