"""What an administrator can do to the XComs of a task, by Airflow's REST API."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

from tests.support.airflow_process import Run
from tests.support.airflow_site import AirflowSite


class XComs:
    """Those of one mapped task."""

    def __init__(self, site: AirflowSite, run: Run, task_id: str) -> None:
        self._site = site
        self._path = f"/api/v2/dags/{run.dag_id}/dagRuns/{quote(run.run_id)}/taskInstances/{task_id}/xcomEntries"

    def keys(self, map_index: int) -> list[str]:
        """Of those that there are now."""
        found = self._site.call("GET", f"{self._path}?map_index={map_index}&limit=100")
        return [entry["key"] for entry in found["xcom_entries"]]

    def write(self, map_index: int, key: str, value: Any) -> None:
        """As a worker leaves it: JSON text."""
        self.write_text(map_index, key, json.dumps(value))

    def write_text(self, map_index: int, key: str, text: str) -> None:
        """Text in place of JSON, too."""
        body = {"value": text, "map_index": map_index}
        if key in self.keys(map_index):
            self._site.call("PATCH", f"{self._path}/{key}", body)
        else:
            self._site.call("POST", self._path, {"key": key} | body)

    def clear(self, map_index: int, *keys: str) -> None:
        """These, or all of them."""
        for key in keys or self.keys(map_index):
            self._site.get(f"{self._path}/{key}?map_index={map_index}", "admin", "DELETE").raise_for_status()
