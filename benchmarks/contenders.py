"""Who is measured: how each is written in a DAG file, and the connection that it reads.

All send the same two messages with a temperature of 0.2 to the same server.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

KEY = "sk-benchmark-0123456789"
SYSTEM, USER = "You are terse.", "Say hello."
REQUEST = {
    "model": "test-model",
    "messages": [{"role": "system", "content": SYSTEM}, {"role": "user", "content": USER}],
    "temperature": 0.2,
}


@dataclass(frozen=True)
class Contender:
    """``imports`` and ``call`` are Python source; ``call`` finds ``task_id`` set."""

    name: str
    imports: str
    call: str

    def dag(self, tasks: int = 1) -> str:
        """A DAG file with that many tasks."""
        return (
            f"from airflow.sdk import DAG\n{self.imports}\n\n"
            f"with DAG({self.dag_id!r}, schedule=None):\n"
            f"    for number in range({tasks}):\n        task_id = f'task_{{number}}'\n        {self.call}\n"
        )

    @property
    def dag_id(self) -> str:
        return f"bench_{self.name.replace('-', '_')}"


OPENAI = Contender(
    "openai",
    "from airflow.providers.openai.operators.openai import OpenAIResponseOperator",
    "OpenAIResponseOperator(task_id=task_id, conn_id='openai', model='test-model', "
    f"input_text={USER!r}, response_kwargs={{'instructions': {SYSTEM!r}, 'temperature': 0.2}})",
)
COMMON_AI = Contender(
    "common-ai",
    "from airflow.providers.common.ai.operators.llm import LLMOperator",
    "LLMOperator(task_id=task_id, llm_conn_id='pydanticai', model_id='openai-chat:test-model', "
    f"system_prompt={SYSTEM!r}, prompt={USER!r}, model_settings={{'temperature': 0.2}})",
)
HTTP = Contender(
    "http",
    "from airflow.providers.http.operators.http import HttpOperator",
    "HttpOperator(task_id=task_id, http_conn_id='http', endpoint='chat/completions', "
    f"data={json.dumps(REQUEST)!r}, headers={{'Content-Type': 'application/json'}}, "
    "response_filter=lambda response: response.json())",
)
SKETCH = Contender("sketch", "from sketch import Sketch", f"Sketch(task_id=task_id, request={REQUEST!r})")
OURS = Contender(
    "ours",
    "from airflow_chat_provider.operators import ChatCompletionOperator",
    f"ChatCompletionOperator(task_id=task_id, request={REQUEST!r})",
)
ALL = (OPENAI, COMMON_AI, HTTP, SKETCH, OURS)
EMPTY = Contender("empty", "from empty import Empty", "Empty(task_id=task_id)")
# What Airflow itself charges for a task in a DAG file.
AIRFLOW_EMPTY = Contender(
    "airflow-empty",
    "from airflow.providers.standard.operators.empty import EmptyOperator",
    "EmptyOperator(task_id=task_id)",
)
BY_NAME = {contender.name: contender for contender in (*ALL, EMPTY, AIRFLOW_EMPTY)}


def connections(url: str) -> dict[str, str]:
    """Airflow's connections to the server at ``url``, as environment variables."""
    common = {"host": url, "password": KEY}
    # HttpOperator sends what stands in extra as headers.
    authorization = {"Authorization": f"Bearer {KEY}"}
    values = {
        "OPENAI": {"conn_type": "openai", **common},
        "PYDANTICAI": {"conn_type": "pydanticai", **common},
        "HTTP": {"conn_type": "http", "host": url, "extra": authorization},
        "CHAT_DEFAULT": {"conn_type": "chat", **common},
    }
    return {f"AIRFLOW_CONN_{name}": json.dumps(value) for name, value in values.items()}
