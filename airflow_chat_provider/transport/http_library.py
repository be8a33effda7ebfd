"""The HTTP library that the transport uses: the same as Airflow's task SDK.

Up to Airflow 3.3 that is httpx, from 3.4 on httpx2 with its engine httpcore2. Both have what the transport needs, by
the same names. Tasks, triggerers and DAG processors have loaded the SDK's client, and its library with it, before
anything of ours, so it costs no import. benchmarks/README.md compares the two.
"""

from __future__ import annotations

import os
import re
import sys
from typing import TYPE_CHECKING

_CHOICE = "CHAT_HTTP_LIBRARY"  # for tests and benchmarks, which run both in one environment
_SDK = "apache-airflow-task-sdk"


def _is_httpx2() -> bool:
    if chosen := os.environ.get(_CHOICE):
        return chosen == "httpx2"
    client = sys.modules.get("airflow.sdk.api.client")
    if client is not None:
        return hasattr(client, "httpx2")
    # Not loaded yet, as in a script. Reading what the SDK requires takes 0.7 ms, loading its client much longer.
    from importlib.metadata import requires

    return any(re.match(r"httpx2\b", needed) for needed in requires(_SDK) or ())


if TYPE_CHECKING or not _is_httpx2():
    import httpcore
    import httpx
else:
    import httpcore2 as httpcore
    import httpx2 as httpx

__all__ = ["httpcore", "httpx"]
