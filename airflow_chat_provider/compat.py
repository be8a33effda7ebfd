"""Airflow's exceptions, wherever this version of Airflow keeps them."""

from __future__ import annotations

try:
    from airflow.sdk.exceptions import (
        AirflowException,
        AirflowFailException,
        AirflowNotFoundException,
        XComNotFound,
    )
except ImportError:  # Airflow 3.1
    from airflow.exceptions import (  # type: ignore[attr-defined,no-redef]
        AirflowException,
        AirflowFailException,
        AirflowNotFoundException,
        XComNotFound,
    )

__all__ = ["AirflowException", "AirflowFailException", "AirflowNotFoundException", "XComNotFound"]
