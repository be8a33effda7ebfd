"""A task that does nothing. Airflow's own EmptyOperator is never handed to a worker."""

from __future__ import annotations

from airflow.sdk import BaseOperator


class Empty(BaseOperator):
    def execute(self, context):  # noqa: ARG002 - the signature is Airflow's
        return None
