"""Airflow's simple auth manager, with one user who may not see some of the DAGs: its own roles are for all of them."""

from __future__ import annotations

from typing import Any

from airflow.api_fastapi.auth.managers.simple.simple_auth_manager import SimpleAuthManager

from tests.support.airflow_site import HIDDEN

STRANGER = "stranger"


class ChoosyAuthManager(SimpleAuthManager):
    """Loaded by the API server of an AirflowSite."""

    def is_authorized_dag(self, *, user: Any, details: Any = None, **arguments: Any) -> bool:
        """Airflow asks this for each DAG, in lists too."""
        if user.username == STRANGER and details is not None and (details.id or "").startswith(HIDDEN):
            return False
        return bool(super().is_authorized_dag(user=user, details=details, **arguments))
