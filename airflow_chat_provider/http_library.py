"""The HTTP library that the transport speaks through: the one that Airflow's task SDK is on.

That is httpx up to Airflow 3.3, and httpx2 with its engine httpcore2 from 3.4 on. A task, a triggerer and a DAG processor
have loaded it before anything of ours, so that it costs no import. Both have the same names for all that the
transport needs. Elsewhere (``dag.test()`` in a script, the API server) it is httpx2 where something has loaded it.
"""

from __future__ import annotations

import importlib
import os
import sys
from typing import TYPE_CHECKING

_CHOICE = "CHAT_HTTP_LIBRARY"  # for tests and benchmarks, which run both in one environment


def _chosen() -> str:
    if named := os.environ.get(_CHOICE):
        return named
    airflow = sys.modules.get("airflow.sdk.api.client")
    loaded = sys.modules if airflow is None else vars(airflow)
    return "httpx2" if "httpx2" in loaded else "httpx"


if TYPE_CHECKING:
    import httpcore
    import httpx
else:
    httpx = importlib.import_module(_chosen())
    httpcore = importlib.import_module({"httpx": "httpcore", "httpx2": "httpcore2"}[httpx.__name__])

__all__ = ["httpcore", "httpx"]
