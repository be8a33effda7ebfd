"""What counting costs: `PYTHONPATH=$PWD .venv/bin/python benchmarks/counting.py`, in less than a minute.

CPU time of this process, with the server in another one: of whole calls and of a batch's rows, with and without prices
in turn. The difference is small against what any of these varies by, so counting is measured alone, too: of prices that
the connection has, and of public ones (by the extra `[prices]`, if it is installed), for one answer each. Loading the
public ones is measured in a fresh process.
"""

from __future__ import annotations

import gc
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path

CALLS, ROWS, ROUNDS, TIMES = 200, 1_000, 5, 10_000
HERE = Path(__file__).resolve().parent
HOME = tempfile.mkdtemp()
os.environ |= {"AIRFLOW_HOME": HOME, "AIRFLOW__LOGGING__LOGGING_LEVEL": "WARNING"}
sys.path[:0] = [str(HERE.parent)]

REQUEST = {"model": "test-model", "messages": [{"role": "user", "content": "Say hello."}]}
# Thirty patterns, as for all models of a company.
PRICES = {f"model-{number}*": {"input": "1", "output": "2"} for number in range(29)}
PRICES["test-*"] = {"input": "0.25", "cached_input": "0.025", "output": "2.00"}
USAGE = {
    "prompt_tokens": 900,
    "completion_tokens": 120,
    "total_tokens": 1020,
    "prompt_tokens_details": {"cached_tokens": 640, "audio_tokens": 0},
    "completion_tokens_details": {"reasoning_tokens": 64, "audio_tokens": 0},
}
LOADING = """
import resource, time
def rss(): return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize() / 1e6
from airflow_chat_provider.transport.price_list import PriceList
from airflow_chat_provider.core.connection.settings import Settings
before, began = rss(), time.process_time()
PriceList(Settings()).rates("gpt-4o")
print(time.process_time() - began, rss() - before)
"""


def connect(conn_id, url, prices):
    extra = {"prices": PRICES} if prices else {}
    os.environ[f"AIRFLOW_CONN_{conn_id.upper()}"] = json.dumps(
        {"conn_type": "chat", "host": url, "password": "sk-x", "extra": extra}
    )


def calls(hook):
    began = time.process_time()
    for _ in range(CALLS):
        hook.create(REQUEST)
    return (time.process_time() - began) / CALLS * 1e6


def batch(conn_id, folder):
    from airflow.sdk import DAG

    from airflow_chat_provider.operators import ChatCompletionBatchOperator

    task = ChatCompletionBatchOperator(
        task_id="bulk",
        dag=DAG("bulk", schedule=None),
        chat_conn_id=conn_id,
        model="test-model",
        prompt="{{ row.text }}",
        input=[{"text": f"row {number}"} for number in range(ROWS)],
        output=str(folder),
    )
    gc.collect()
    began = time.process_time()
    task.execute({})
    return (time.process_time() - began) / ROWS * 1e6


def alone(base_url, model, prices):
    """Pricing one answer, and adding it to the sums."""
    from airflow_chat_provider.core.answer.reply import Reply
    from airflow_chat_provider.core.answer.usage import Calls, Usage, cost_of
    from airflow_chat_provider.core.connection.settings import settings_from
    from airflow_chat_provider.transport.price_list import PriceList

    found = PriceList(settings_from("c", host=base_url, extra=json.dumps({"prices": PRICES}) if prices else None))
    reply, usage = Reply(200, {"model": model, "usage": USAGE}), Usage()
    found.priced(reply, model)

    def per_answer(price):
        began = time.process_time()
        for _ in range(TIMES):
            one = price(reply, model)
            usage.take(None, Calls(), cost_of(one))
        return (time.process_time() - began) / TIMES * 1e6

    return per_answer(found.priced), per_answer(lambda reply, _: reply)


def shown(values):
    return f"{statistics.median(values):.1f} us ({min(values):.1f} to {max(values):.1f})"


def main():
    from airflow_chat_provider.hooks import ChatCompletionHook

    code = (
        "from airflow_chat_provider.testing import ChatServer, replies\n"
        f"with ChatServer(default=replies.ok('Hello', usage={USAGE!r})) as server:\n"
        "    print(server.url, flush=True)\n    input()\n"
    )
    server = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=HERE.parent
    )
    try:
        url = server.stdout.readline().strip()
        ways = {"without prices": False, "with prices": True}
        hooks = {}
        for way, prices in ways.items():
            conn_id = way.replace(" ", "_")
            connect(conn_id, url, prices)
            hooks[way] = ChatCompletionHook(conn_id)
            hooks[way].create(REQUEST)
            batch(conn_id, Path(HOME, f"first-{prices}"))
        whole = {(what, way): [] for what in ("call", "row") for way in ways}
        for number in range(ROUNDS):
            for way in sorted(ways, reverse=bool(number % 2)):
                whole["call", way].append(calls(hooks[way]))
                whole["row", way].append(batch(way.replace(" ", "_"), Path(HOME, f"{way}-{number}")))
    finally:
        server.communicate("\n")
    report(whole)


def report(whole):
    for (what, way), values in whole.items():
        print(f"a whole {what}, {way}: {shown(values)}")
    for what in ("call", "row"):
        ratio = statistics.median(
            more / less for more, less in zip(whole[what, "with prices"], whole[what, "without prices"], strict=True)
        )
        print(f"a {what} with prices takes {ratio:.3f} of one without, in the median of {ROUNDS} rounds")
    kinds = {"the connection's prices": ("http://localhost:1/v1", "test-model", True)}
    if find_spec("genai_prices"):
        kinds["public prices"] = ("https://api.openai.com/v1", "gpt-4o", False)
        kinds["public prices by length"] = ("https://api.anthropic.com/v1", "claude-sonnet-4-5", False)
    row = statistics.median(whole["row", "without prices"])
    for kind, given in kinds.items():
        samples = [more - less for more, less in (alone(*given) for _ in range(ROUNDS))]
        share = statistics.median(samples) / row
        print(f"counting one answer by {kind}: {shown(samples)}, {share:.2%} of a row")
    if find_spec("genai_prices"):
        done = [
            subprocess.run([sys.executable, "-c", LOADING], capture_output=True, text=True, check=True, cwd=HERE.parent)
            for _ in range(3)
        ]
        seconds, memory = zip(*(map(float, one.stdout.split()) for one in done), strict=True)
        print(
            f"loading the public prices: {statistics.median(seconds):.2f} s of CPU, {statistics.median(memory):.0f} MB"
        )


if __name__ == "__main__":
    main()
