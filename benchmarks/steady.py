"""What a process that is warm takes: `python steady.py URL` measures all of them in turn and prints JSON.

One sample of each contender after the other, round after round, so that whatever else the machine does meets all.
"""

from __future__ import annotations

import copy
import gc
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Mapping

import httpx
import sketch
from airflow.sdk import DAG, BaseOperator  # noqa: F401
from contenders import AIRFLOW_EMPTY, ALL, KEY, REQUEST
from fresh import act_as_task, context
from jsonschema import Draft202012Validator

from airflow_chat_provider.core.call.stream import StreamReader
from airflow_chat_provider.operators import ChatCompletionOperator
from airflow_chat_provider.schema import validate_request

Prepare = Callable[[], Callable[[], object]]


def medians(prepared: Mapping[str, Prepare], rounds: int, burst: int = 3) -> dict[str, float]:
    """Milliseconds of each, in small bursts by turns; what is done to prepare a call is not counted."""
    names, samples = list(prepared), {name: [] for name in prepared}
    for name in names:
        timed(prepared[name])
    for number in range(rounds):
        shift = number % len(names)
        for name in names[shift:] + names[:shift]:
            gc.collect()
            gc.freeze()  # nobody pays for the heap of another
            samples[name] += [timed(prepared[name]) for _ in range(burst)][1:]
    return {name: statistics.median(values) for name, values in samples.items()}


def timed(prepare: Prepare) -> float:
    call = prepare()
    began = time.perf_counter()
    call()
    return (time.perf_counter() - began) * 1e3


def execute(url):
    client = httpx.Client(headers={"Authorization": f"Bearer {KEY}"})

    def post():
        return client.post(f"{url}/chat/completions", json=REQUEST).json()

    return medians({"httpx": lambda: post, **{c.name: execution(c) for c in ALL}}, 15, burst=6)


def execution(contender) -> Prepare:
    names = {"task_id": "task"}
    exec(contender.imports, names)
    code = compile(contender.call, "task", "eval")

    def prepare():
        operator, given = eval(code, names), context()
        return lambda: operator.execute(given)

    return prepare


def parse():
    codes = {c.name: compile(c.dag(100), "dag.py", "exec") for c in (AIRFLOW_EMPTY, *ALL)}
    return medians({name: lambda code=code: lambda: exec(code, {}) for name, code in codes.items()}, 8)


def requests():
    """One message, many, and one with an image."""
    many = [{"role": ("user", "assistant")[n % 2], "content": f"message {n}, plain text"} for n in range(1000)]
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 10_000_000}}
    parts = [{"type": "text", "text": "What is this?"}, image]
    return {
        "one": REQUEST,
        "many": {"model": "test-model", "messages": many},
        "image": {"model": "test-model", "messages": [{"role": "user", "content": parts}]},
    }


def validation():
    plain = Draft202012Validator(sketch.schema())
    checks = {"jsonschema": lambda r: list(plain.iter_errors(r)), "sketch": sketch.validate, "ours": validate_request}

    def of(request):
        return {name: lambda check=check: lambda: check(request) for name, check in checks.items()}

    return {size: medians(of(request), 6, burst=2) for size, request in requests().items()}


def templating():
    return {size: medians(renderings(request), 4, burst=2) for size, request in requests().items() if size != "one"}


def renderings(request) -> Mapping[str, Prepare]:
    def airflow():
        operator = BaseOperator(task_id="task")
        return lambda: operator.render_template(request, context(), operator.get_template_env())

    def of(cls):
        def prepare():
            operator = cls(task_id="task", request=copy.deepcopy(request))
            return lambda: operator.render_template_fields(context())

        return prepare

    return {"airflow": airflow, "sketch": of(sketch.Sketch), "ours": of(ChatCompletionOperator)}


def streaming():
    chunk = {
        "id": "x",
        "model": "m",
        "choices": [{"index": 0, "delta": {"content": "some words "}, "finish_reason": None}],
    }
    events = [json.dumps(chunk)] * 19_999
    chunk["choices"][0]["finish_reason"] = "stop"
    events.append(json.dumps(chunk))
    raw = "".join(f"data: {event}\n\n" for event in events).encode()
    pieces = [raw[start : start + 4096] for start in range(0, len(raw), 4096)]

    def ours():
        reader = StreamReader(1 << 30)
        for piece in pieces:
            reader.feed(piece)
        reader.end()
        return reader.body()

    return medians({"json": lambda: lambda: [json.loads(event) for event in events], "ours": lambda: ours}, 4, burst=2)


def main():
    sys.stdout, printed = open(os.devnull, "w"), sys.stdout  # noqa: SIM115, PTH123 - what operators print
    act_as_task()
    rows = {"execute": execute(sys.argv[1]), "parse": parse(), "validation": validation(), "templating": templating()}
    rows["streaming"] = streaming()
    print(json.dumps(rows), file=printed, flush=True)


if __name__ == "__main__":
    main()
