"""Rows go through LiteLLM's proxy to a batch API: it speaks to that one by OpenAI's own SDK."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from airflow_chat_provider.testing import BatchServer, batch_faults
from tests.support.batching import Batch
from tests.system.servers.conftest import NAMES, ROOT
from tests.system.servers.gateways import litellm_batches
from tests.system.servers.programs import Missing
from tests.system.servers.served import Place

pytestmark = pytest.mark.skipif("litellm" not in NAMES, reason="LiteLLM was not chosen")


def test_each_row_has_its_answer_by_way_of_litellm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    light, servers = ROOT / ".venv-servers", ROOT / ".servers"
    place = Place(light, ROOT / ".venv-engines", servers / "node", servers / "model", tmp_path)
    with BatchServer(batch_faults.expired(rows=2)) as vendor:
        try:
            with litellm_batches(place, vendor.url) as served:
                value = {"conn_type": "chat", "host": served.url, "password": served.key}
                monkeypatch.setenv("AIRFLOW_CONN_CHAT_DEFAULT", json.dumps(value))
                batch = Batch(tmp_path, vendor)
                batch.texts(5)
                through = {"via": "batch_api", "deferrable": False, "max_failures": None, "model": served.model}
                first, second = batch.run(**through), batch.run(**through)
        except Missing as missing:
            pytest.skip(str(missing))
        assert [len(one.input.json) for one in vendor.batches] == [5, 3]
    assert (first["succeeded"], second["succeeded"], second["missing"]) == (2, 5, 0)
    assert second["usage"]["total_tokens"] == vendor.tokens
    results = [json.loads(line) for line in Path(second["results"]).read_text("utf-8").splitlines()]
    assert {line["row"]["text"]: line["response"] for line in results} == {f"row {n}": f"row {n}" for n in range(5)}
