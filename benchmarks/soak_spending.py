"""Is our bill the server's? `python soak_spending.py [--seconds 60] [--seed 1] [--percent 30]`.

Operators and batches call one server that goes wrong now and then. It counts the tokens of each answer whose usage it
has sent; the XComs `usage`, the manifests and the lines of the batches count what they were given. Both have to be
equal, and so do the costs. Nobody is killed here: what a killed caller did not read, it cannot count. The exit code is
1 where the sums differ.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import sys
import tempfile
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

from fresh import act_as_task
from soak_clients import SCHEMA

from airflow_chat_provider.errors import ChatCompletionError
from airflow_chat_provider.operators import ChatCompletionBatchOperator, ChatCompletionOperator
from airflow_chat_provider.testing import BatchServer, End, batch_faults, faults, replies

OPERATORS, ROWS, AT_ONCE = 3, 100, 8
PRICES = {"input": "0.25", "output": "2.00"}
STYLES = (
    {"result_format": "text"},
    {"request": {"stream": True, "stream_options": {"include_usage": True}}},
    {"response_schema": SCHEMA, "result_format": "json"},
)
_ENDS = (
    lambda draw: batch_faults.expired(draw.randrange(ROWS)),
    lambda draw: batch_faults.cancelled(draw.randrange(ROWS)),
    lambda _: batch_faults.shuffled(),
    lambda _: batch_faults.same_id_twice(),
    lambda _: batch_faults.output_cut(),
    lambda _: batch_faults.upload_lost(),
    lambda _: batch_faults.start_lost(),
    lambda _: batch_faults.busy(),
    lambda _: batch_faults.out_of_order(),
)


class Bill:
    """Tokens of prompts and of answers, added up by many threads."""

    def __init__(self):
        self.input = self.output = self.answers = 0
        self.cost = Decimal(0)
        self._lock = threading.Lock()

    def add(self, input_tokens, output_tokens, answers, cost):
        with self._lock:
            self.input += input_tokens
            self.output += output_tokens
            self.answers += answers
            self.cost += cost

    def add_body(self, usage, share=Decimal(1)):
        """What one answer's usage says, priced as the account would be charged."""
        prompt, completion = usage["prompt_tokens"], usage["completion_tokens"]
        cost = (prompt * Decimal(PRICES["input"]) + completion * Decimal(PRICES["output"])) / 1_000_000
        self.add(prompt, completion, 1, cost * share)

    def add_usage(self, usage):
        """What a task or a batch has left of the sixteen keys."""
        cost = Decimal(str(usage["cost"] or 0))
        self.add(usage["input_tokens"] or 0, usage["output_tokens"] or 0, usage["requests"], cost)

    def shown(self):
        return f"{self.answers:,} answers, {self.input:,} + {self.output:,} tokens, {self.cost.normalize():f}"

    def equals(self, other):
        return (self.input, self.output, round(self.cost, 9)) == (other.input, other.output, round(other.cost, 9))


class Server:
    """Draws what each request is answered with, and counts what it has served."""

    def __init__(self, seed, percent):
        self.bill = Bill()
        self.kinds = Counter()
        self._draw = random.Random(seed)
        self._percent = percent
        self._lock = threading.Lock()

    def single(self, request):
        """The reply to a single call."""
        body, usage = request.json, self._usage()
        kind = self._kind()
        if kind == "reset":
            return faults.reset()
        if kind == "429":
            return replies.error(429, "slow down", headers={"retry-after-ms": "20"})
        if kind == "500":
            return replies.error(500, "out of order", headers={"retry-after-ms": "20"})
        good = self._good(body, usage, kind)
        if kind == "half":
            return faults.cut_stream() if body.get("stream") else faults.half_body(good.body[:-9])
        reply = replace(good, end=End.CLOSE) if kind == "closed" else good
        return self._counting(reply, usage)

    def row(self, body):
        """The answer to a row of a batch, which the vendor's batch API sells for half."""
        usage = self._usage()
        self.bill.add_body(usage, Decimal("0.5"))
        return replies.ok(f"This is {body['model']}", usage=usage)

    def _kind(self):
        with self._lock:
            wrong = self._draw.random() * 100 < self._percent
            kind = self._draw.choice(KINDS) if wrong else "good"
            self.kinds[kind] += 1
        return kind

    def _usage(self):
        with self._lock:
            prompt, completion = self._draw.randrange(1, 500), self._draw.randrange(1, 200)
        return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}

    @staticmethod
    def _good(body, usage, kind):
        if kind == "no choices":
            return replies.json_reply(200, replies.completion(choices=[], usage=usage))
        if kind == "cut off":
            return replies.ok('{"number": 1', finish_reason="length", usage=usage)
        if body.get("stream"):
            last = {**replies.chunk(), "choices": [], "usage": usage}
            return replies.sse([*replies.events_of("Some words")[:-1], last])
        if "response_format" in body and kind != "words":
            return replies.ok(json.dumps({"number": 7, "mark": "x"}), usage=usage)
        return replies.ok("Some words", usage=usage)

    def _counting(self, reply, usage):
        def steps(_):
            for piece in reply.steps(reply):
                yield piece
                if b'"usage"' in piece:  # a client may close a stream as soon as it has this
                    self.bill.add_body(usage)

        return replace(reply, steps=steps)


KINDS = ("reset", "429", "500", "half", "closed", "no choices", "cut off", "words")


class TaskInstance:
    """Keeps what a task leaves."""

    dag_id, run_id, task_id, map_index = "soak", "run", "ask", -1
    try_number, max_tries = 1, 0

    def __init__(self):
        self.xcoms = {}

    def xcom_push(self, key, value):
        self.xcoms[key] = json.loads(json.dumps(value))


class Callers:
    """Tasks and batches, each of which adds what it has counted."""

    def __init__(self, folder, seed, until):
        self.bill, self.manifests, self.lines = Bill(), Bill(), Bill()
        self.ended = Counter()
        self._folder = folder
        self._seed = seed
        self._until = until

    @property
    def over(self):
        return time.monotonic() > self._until

    def tasks(self, worker):
        draw = random.Random(f"{self._seed} {worker}")
        while not self.over:
            ti = TaskInstance()
            task = ChatCompletionOperator(task_id="ask", prompt="Say something", **draw.choice(STYLES))
            self._run(task, {"ti": ti, "params": {}})
            self.bill.add_usage(ti.xcoms["usage"])

    def batches(self, server, *, via):
        draw = random.Random(f"{self._seed} {via}")
        number = 0
        while not self.over:
            number += 1
            out = self._folder / f"{via}-{number}"
            if via == "batch_api":
                server.script(draw.choice(_ENDS)(draw))
            manifest = self._batch(out, draw, via)
            self.bill.add_usage(manifest["usage"])
            self.manifests.add_usage(manifest["usage"])
            self._add_lines(out)
            shutil.rmtree(out)

    def _batch(self, out, draw, via):
        """Two tries: the second asks for what the first has left."""
        style = {"result_format": "text"} if via == "batch_api" else draw.choice((STYLES[0], STYLES[2]))
        for _ in range(2):
            task = ChatCompletionBatchOperator(
                task_id="bulk",
                input=[{"text": f"Row {number}"} for number in range(ROWS)],
                output=str(out),
                prompt="Say something about {{ row.text }}",
                max_concurrency=AT_ONCE,
                max_failures=None,
                via=via,
                deferrable=False,
                **style,
            )
            self._run(task, {})
        return json.loads((out / "manifest.json").read_text("utf-8"))

    def _run(self, task, context):
        try:
            task.execute(context)
        except ChatCompletionError as error:
            self.ended[type(error).__name__] += 1
        except Exception as error:  # noqa: BLE001 - final errors are Airflow's
            self.ended[type(error).__name__] += 1
        else:
            self.ended["success"] += 1

    def _add_lines(self, out):
        """What the lines say: results of all tries, and what those that failed in the end have used."""
        for name in ("results", "errors"):
            file = out / f"{name}.jsonl"
            for line in file.read_text("utf-8").splitlines() if file.exists() else ():
                found = json.loads(line)
                usage = found.get("usage") or {}
                tokens = usage.get("prompt_tokens") or 0, usage.get("completion_tokens") or 0
                self.lines.add(*tokens, 1, Decimal(str(found.get("cost") or 0)))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", default="1")
    parser.add_argument("--percent", type=float, default=30)
    parser.add_argument("--no-batch-api", action="store_true")
    given = parser.parse_args()
    act_as_task()
    printed, sys.stdout = sys.stdout, open(os.devnull, "w")  # noqa: SIM115, PTH123 - what an operator logs
    counting = Server(given.seed, given.percent)
    server = BatchServer(answer=counting.row, record=lambda _: None)
    server.default = counting.single
    with server, tempfile.TemporaryDirectory(prefix="soak-") as name:
        extra = {**server.connection["extra"], "prices": {"*": PRICES}, "max_attempts": 4}
        os.environ["AIRFLOW_CONN_CHAT_DEFAULT"] = json.dumps({**server.connection, "extra": extra})
        callers = Callers(Path(name), given.seed, time.monotonic() + given.seconds)
        ways = ["calls"] if given.no_batch_api else ["calls", "batch_api"]
        with ThreadPoolExecutor(OPERATORS + len(ways)) as pool:
            running = [pool.submit(callers.tasks, worker) for worker in range(OPERATORS)]
            running += [pool.submit(callers.batches, server, via=way) for way in ways]
            for one in running:
                one.result()
    print("served: ", counting.bill.shown(), file=printed)
    print("counted:", callers.bill.shown(), file=printed)
    print("manifests and lines of batches:", callers.manifests.shown(), "/", callers.lines.shown(), file=printed)
    print("replies:", dict(counting.kinds), file=printed)
    print("tasks:  ", dict(callers.ended), file=printed)
    sys.exit(not (counting.bill.equals(callers.bill) and callers.manifests.equals(callers.lines)))


if __name__ == "__main__":
    main()
