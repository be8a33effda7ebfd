"""The batches of the soak, each killed and continued."""

from __future__ import annotations

import gc
import json
import random
import shutil
import threading
import time
from pathlib import Path
from typing import Any

from soak_clients import STYLES, Clients, counted

from airflow_chat_provider.airflow_api.compat import exceptions
from airflow_chat_provider.errors import ChatCompletionError
from airflow_chat_provider.operators import ChatCompletionBatchOperator

_ROWS, _AT_ONCE, _KILLS = 120, 8, 3


class Batches:
    """One batch after the other, each killed and continued."""

    def __init__(self, clients: Clients) -> None:
        self._clients = clients

    def run(self) -> None:
        number = 0
        while not self._clients.over:
            number += 1
            folder = self._clients.folder / f"batch-{number}"
            folder.mkdir()
            self._batch(f"b{number}", folder, self._clients.draw(f"b{number}"))
            shutil.rmtree(folder)

    def _batch(self, name: str, folder: Path, draw: random.Random) -> None:
        style = draw.choice([style for style in STYLES if "result_format" in style])
        form = "as JSON " if style["result_format"] == "json" else ""
        rows = [{"text": f"{form}subject {name}-{index} end"} for index in range(_ROWS)]
        (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        kills, lines = [], {}
        for attempt in range(_KILLS + 2):  # the last one asks again for what has failed
            dies = draw.random() * 2.5 if attempt < _KILLS else None
            if dies is not None and self._clients.over:
                continue
            killed = self._run(folder, style, dies)
            kills += [killed] if killed else []
            for line in _lines(folder / "out" / "errors.jsonl"):
                lines.setdefault(line["index"], []).append(json.dumps(line, ensure_ascii=False))
        self._note(name, folder, kills, lines)

    def _note(self, name: str, folder: Path, kills: list[float], failed: dict[int, list[str]]) -> None:
        results = {line["index"]: line for line in _lines(folder / "out" / "results.jsonl")}
        for index in range(_ROWS):
            line, earlier = results.get(index), failed.get(index, [])
            held = json.dumps(line, ensure_ascii=False) if line else earlier[-1] if earlier else ""
            ends = [(held, counted(line)), *((text, counted(json.loads(text).get("body"))) for text in earlier)]
            ended = "success" if line else "failed" if earlier else "missing"
            more = {"kills": kills, "ended": ended, "errors": [text[-300:] for text in earlier]}
            self._clients.note(f"{name}-{index}", held, " ".join(earlier), ends, deaths=len(kills), left=[], **more)

    def _run(self, folder: Path, style: dict[str, Any], dies: float | None) -> float | None:
        task = ChatCompletionBatchOperator(
            task_id="bulk",
            input=str(folder / "rows.jsonl"),
            output=str(folder / "out"),
            prompt="Answer {{ row.text }}",
            max_concurrency=_AT_ONCE,
            max_failures=None,
            **style,
        )
        timer = threading.Timer(dies or 0.0, task.on_kill) if dies is not None else None
        if timer is not None:
            timer.start()
        try:
            task.execute({})
        except (ChatCompletionError, exceptions.AirflowException):
            return time.time()
        finally:
            if timer is not None:
                timer.cancel()
            gc.collect()  # while a batch runs, which thinks itself alone, no garbage of others is looked for
        return None


def _lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text("utf-8").split("\n")[:-1]] if file.exists() else []
