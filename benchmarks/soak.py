"""Everything at once, with every fault, for minutes: `python soak.py [--seconds 300] [--seed 1] [--percent 10]`.

Operators, deferred calls and batches call one server that answers half of the requests with a fault: 10 % with each of
five kinds. Tasks are killed, triggerers die and come back, the database fails now and then. Afterwards both sides are
laid side by side: each answer of 2xx that the server has sent to its last byte has to be in what a task or a file
holds, or an error has to name it (by its request id or its Idempotency-Key). And nothing may have grown: memory,
sockets, threads, tasks of the event loop. The exit code is 1 where that is not so.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).resolve().parent
TIMEOUT = 3.0
_SOON = 5.0  # seconds between an answer and the death that it came too late for
_EXAMPLES = 12
ACCOUNTED = {
    "held": "a task's XComs or a batch's files hold it",
    "named": "an error names it by its request id",
    "key": "an error names it by its Idempotency-Key",
    "counted": "it did not fit and was asked for again: the usage counts it",
    "again": "whoever waited for it was killed: asked again by the same key",
}
NOT_ACCOUNTED = {"late": "sent when its caller's time was up", "lost": "LOST: no trace of it"}


class Answer(NamedTuple):
    """One POST as the server saw it. ``sent``: when its last byte left; None where it did not."""

    id: str
    subject: str
    key: str | None
    kind: str
    status: int
    fits: bool
    asked: float
    sent: float | None = None

    @property
    def is_paid(self) -> bool:
        return self.sent is not None and 200 <= self.status < 300


def lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text("utf-8").splitlines()]


def answers(folder: Path) -> list[Answer]:
    found: dict[str, Answer] = {}
    for line in lines(folder / "server.jsonl"):
        if "asked" in line:
            found[line["id"]] = Answer(**line)
        else:
            found[line["id"]] = found[line["id"]]._replace(sent=line["sent"])
    return list(found.values())


class Books:
    """Both sides."""

    def __init__(self, folder: Path) -> None:
        self.answers = answers(folder)
        self.clients = {line["subject"]: line for line in lines(folder / "clients.jsonl")}
        self._last = {_asked_by(answer): answer.asked for answer in self.answers}
        self._of: dict[str, list[Answer]] = {}
        for answer in self.answers:
            self._of.setdefault(answer.subject, []).append(answer)
        self.places = {answer.id: self._place(answer) for answer in self.answers if answer.is_paid}

    def _place(self, answer: Answer) -> str:
        """Where it went: a key of ACCOUNTED or of NOT_ACCOUNTED."""
        client = self.clients.get(answer.subject)
        if client is None:
            return "lost"
        if answer.id in client["held"]:
            return "held"
        if answer.id in client["named"]:
            return "named"
        # The key of a call that asks again begins with that of the first one.
        if any(answer.key == key or str(answer.key).startswith(f"{key}.") for key in client["keys"]):
            return "key"
        if self._is_counted(answer, client):
            return "counted"
        if self._saw_death(answer, client) and self._is_asked_again(answer, client):
            return "again"
        return "late" if answer.sent - answer.asked > TIMEOUT - 0.2 else "lost"

    def _is_asked_again(self, answer: Answer, client: dict[str, Any]) -> bool:
        """By its key. A deferred call may be so only where it is told to, and then from its dialogue's beginning."""
        if "resend" in client:
            return client["resend"] and self._of[answer.subject][-1] is not answer
        return self._last[_asked_by(answer)] > answer.asked

    def _is_counted(self, answer: Answer, client: dict[str, Any]) -> bool:
        """Was it followed by a better one, or a worse, whose usage is that of all?"""
        mine = [found for found in self._of[answer.subject] if found.is_paid]
        for marks, number in client["dialogues"]:
            last = next((place for place, found in enumerate(mine) if found.id in marks), 0)
            if answer in mine[max(0, last + 1 - number) : last]:
                return True
        return False

    @staticmethod
    def _saw_death(answer: Answer, client: dict[str, Any]) -> bool:
        if "kills" in client:
            return any(abs(kill - answer.asked) < _SOON for kill in client["kills"])
        return client["deaths"] > 0

    def report(self) -> bool:
        """Print both sides; whether they are equal."""
        paid, places = [answer for answer in self.answers if answer.is_paid], Counter(self.places.values())
        print(f"\nThe server counted {len(self.answers):,} POSTs")
        for name, count in Counter(self._fate(answer) for answer in self.answers).most_common():
            print(f"  {count:7,}  {name}")
        print(f"\nThe callers: {len(self.clients):,} tasks and rows")
        for (who, ended), count in sorted(Counter(map(_end_of, self.clients.values())).items()):
            print(f"  {count:7,}  {who}: {ended}")
        print(f"\nOf {len(paid):,} whole answers of 2xx")
        for name, meaning in (ACCOUNTED | NOT_ACCOUNTED).items():
            print(f"  {places[name]:7,}  {meaning}")
        lost = [answer for answer in paid if self.places[answer.id] == "lost"]
        self._examples(lost)
        troubled = [client for client in self.clients.values() if client["left"] and client["troubled"]]
        left = [client for client in self.clients.values() if client["left"] and not client["troubled"]]
        print(f"\nTasks that ended and left a journal in XCom: {len(left)}", [client["subject"] for client in left[:5]])
        print(f"  and where the database failed: {len(troubled)}")
        print(f"Difference: {len(paid):,} - {len(paid) - len(lost):,} = {len(lost):,}")
        return not lost and not left

    def _fate(self, answer: Answer) -> str:
        if answer.sent is None:
            return "broken on the way, or its caller was gone"
        return "2xx, whole" if answer.is_paid else "refused: 3xx, 4xx, 5xx"

    def _examples(self, lost: list[Answer]) -> None:
        kinds = Counter((_who(answer.subject), self._why(answer)) for answer in lost)
        for (who, why), count in kinds.most_common():
            print(f"           {count:5,}  {who}: {why}")
        for answer in lost[:_EXAMPLES]:
            client = self.clients.get(answer.subject, {})
            told = {name: client.get(name) for name in ("ended", "deaths", "held", "dialogues", "errors")}
            print(f"           {answer.id} {answer.subject} ({answer.kind}) {json.dumps(told)[:600]}")

    def _why(self, answer: Answer) -> str:
        client = self.clients.get(answer.subject)
        if client is None:
            return "its caller never ended"
        what = "an answer" if answer.fits else "an answer that does not fit"
        when = ", the database was away" if any("Hiccup" in text for text in client["errors"]) else ""
        when += ", somebody died" if self._saw_death(answer, client) else ""
        if self._last[_asked_by(answer)] > answer.asked:
            then = "asked again by its key"
        elif self._of[answer.subject][-1] is answer:
            then = "nothing was asked after it"
        else:
            then = "the next was asked by another key"
        return f"{what}{when}, {then}, {'success' if client['ended'] == 'success' else 'failure'}"


def _asked_by(answer: Answer) -> str | None:
    """The key; of a batch, that of the row's first ask: its run begins the dialogue anew once it was killed."""
    if _who(answer.subject) == "batch" and answer.key:
        return "-".join(answer.key.split("-")[:3])
    return answer.key


def _who(subject: str) -> str:
    return {"o": "operator", "t": "trigger", "b": "batch"}.get(subject[0], "?")


def _end_of(client: dict[str, Any]) -> tuple[str, str]:
    return _who(client["subject"]), client["ended"]


class Limit(NamedTuple):
    """What may be between the first half and the second, and between before and after."""

    factor: float
    more: float
    at_rest: float


LIMITS = {
    "mb": Limit(1.05, 12.0, float("inf")),
    "sockets": Limit(1.25, 10.0, 2.0),
    "files": Limit(1.25, 10.0, 4.0),
    "threads": Limit(1.25, 5.0, 3.0),
    "tasks": Limit(1.25, 5.0, 0.0),
}


def flat(folder: Path) -> bool:
    """Print what the callers' process held; whether nothing of it has grown."""
    samples = lines(folder / "samples.jsonl")
    before, *load, after = samples
    load = load[len(load) // 5 :]  # until all that is used has been imported, and every pool is full
    half, is_flat = len(load) // 2, True
    print(f"\n{'':10}{'before':>10}{'1st half':>10}{'2nd half':>10}{'after':>10}")
    for name, limit in LIMITS.items():
        first, second = (statistics.mean(sample[name] for sample in part) for part in (load[:half], load[half:]))
        grown = second > first * limit.factor + limit.more or after[name] > before[name] + limit.at_rest
        is_flat = is_flat and not grown
        row = "".join(f"{value:10.1f}" for value in (before[name], first, second, after[name]))
        print(f"{name:10}{row}{'  GROWN' if grown else ''}")
    return is_flat


def environment(folder: Path, url: str) -> dict[str, str]:
    """For the load: an Airflow of its own, and the connection."""
    extra = {"model": "m", "timeout": TIMEOUT, "stall_timeout": 1.5, "deadline": 20, "max_response_bytes": 200_000}
    connection = {"conn_type": "chat", "host": url, "password": "sk-soak-1234567890", "extra": extra}
    ours = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "PYTHON"))}
    return ours | {
        "AIRFLOW_HOME": str(folder / "airflow"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW_CONN_CHAT_DEFAULT": json.dumps(connection),
        "MALLOC_ARENA_MAX": "2",  # what the C library keeps for each of many threads would look like growth
        "PYTHONPATH": f"{HERE.parent}{os.pathsep}{HERE}",
    }


def run(folder: Path, options: argparse.Namespace) -> int:
    command = [sys.executable, str(HERE / "soak_server.py"), str(folder), options.seed, str(options.percent)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            url = server.stdout.readline().strip()
            load = [sys.executable, str(HERE / "soak_load.py"), str(folder), str(options.seconds), options.seed]
            output = (folder / "output.txt").open("w")
            done = subprocess.run(
                load,
                env=environment(folder, url),
                stdout=output,
                stderr=output,
                check=False,
                timeout=options.seconds + 300,
            )
        finally:
            server.terminate()
    if done.returncode:
        print((folder / "output.txt").read_text("utf-8", "replace")[-4000:])
    return done.returncode


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=300.0)
    parser.add_argument("--seed", default="1")
    parser.add_argument("--percent", type=float, default=10.0, help="of the requests, for each of five kinds of fault")
    parser.add_argument("--keep", type=Path, help="a folder for what both sides wrote down")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="soak-") as name:
        folder = options.keep or Path(name)
        folder.mkdir(exist_ok=True)
        if run(folder, options):
            sys.exit(1)
        equal = Books(folder).report()
        is_flat = flat(folder)
    sys.exit(0 if equal and is_flat else 1)


if __name__ == "__main__":
    main()
