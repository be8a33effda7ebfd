"""The base class of plugins, and what a plugin of this Airflow can do. Every process of Airflow imports this."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import airflow

if TYPE_CHECKING:
    from airflow.plugins_manager import AirflowPlugin
else:
    # From 3.2 on, the task SDK has a twin of the core's class, and each takes the other's. Whoever loads the plugin has
    # one of the two already: to import the other would cost a worker the core, or the API server parts of the SDK.
    _loaders = ("airflow.plugins_manager", "airflow.sdk.plugins_manager")
    _loader = next((sys.modules[name] for name in _loaders if name in sys.modules), None)
    if _loader is None:
        from airflow import plugins_manager as _loader
    AirflowPlugin = _loader.AirflowPlugin

__all__ = ["AirflowPlugin"]  # from elsewhere
TABS_BY_OPERATOR = tuple(map(int, airflow.__version__.split(".")[:2])) >= (3, 4)
"""Can a tab be limited to some operators, by ``applies_to``? Before Airflow 3.4 it is on all task instances."""
