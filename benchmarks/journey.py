"""How far one plain call travels through this package: `python benchmarks/journey.py` [--calls].

One `execute()` of a plain operator in a warm process, on the task's thread, watched by `sys.setprofile`. A *call* is a
function of this package that is entered (what a generator does between two values is no call); a *move* is a call from
one module into another; a *module* is one that is entered at all. Code of others (httpx, Airflow, jsonschema)
is looked through: a call that comes back by way of it is a call from where it went out.
"""

from __future__ import annotations

import collections
import json
import os
import sys
from pathlib import Path

import airflow_chat_provider
from airflow_chat_provider.testing import ChatServer, replies

PACKAGE = str(Path(airflow_chat_provider.__file__).parent) + os.sep
REQUEST = {"model": "test-model", "messages": [{"role": "user", "content": "Say hello."}]}


class Journey:
    """What is seen of one run: the names of the functions, in the order in which they were entered."""

    def __init__(self):
        self.calls = collections.Counter()
        self.moves = collections.Counter()
        self._inside: list[str] = []

    def _watch(self, frame, event, _argument):
        code = frame.f_code
        if not code.co_filename.startswith(PACKAGE):
            return
        module = code.co_filename[len(PACKAGE) :].removesuffix(".py")
        if event == "call":
            if frame.f_lasti <= 2:  # else a generator goes on
                self.calls[module, code.co_qualname] += 1
                if self._inside and self._inside[-1] != module:
                    self.moves[self._inside[-1], module] += 1
            self._inside.append(module)
        elif event == "return" and self._inside:
            self._inside.pop()

    def run(self, function, *arguments):
        sys.setprofile(self._watch)
        try:
            function(*arguments)
        finally:
            sys.setprofile(None)

    @property
    def modules(self):
        return sorted({module for module, _ in self.calls})


def main():
    from fresh import act_as_task, context

    from airflow_chat_provider.operators import ChatCompletionOperator

    printed, sys.stdout = sys.stdout, open(os.devnull, "w")  # noqa: SIM115, PTH123 - what operators print
    act_as_task()
    with ChatServer(default=replies.ok("Hello.")) as server:
        connection = {"conn_type": "chat", "host": server.url, "password": "sk-benchmark-key"}
        os.environ["AIRFLOW_CONN_CHAT_DEFAULT"] = json.dumps(connection)
        for _ in range(3):
            operator, given, journey = ChatCompletionOperator(task_id="task", request=REQUEST), context(), Journey()
            journey.run(operator.execute, given)
    calls, moves = journey.calls.total(), journey.moves.total()
    print(f"{len(journey.modules)} modules, {moves} moves between them, {calls} function calls", file=printed)
    if "--calls" in sys.argv:
        per_module = collections.Counter()
        for (module, _), times in journey.calls.items():
            per_module[module] += times
        for module, times in per_module.most_common():
            print(f"\n{times:4} {module}", file=printed)
            for (where, name), count in journey.calls.most_common():
                if where == module:
                    print(f"     {count:4} {name}", file=printed)


if __name__ == "__main__":
    main()
