"""The plugin, as each process of Airflow loads it."""

import os
import subprocess
import sys
from importlib.metadata import version

import pytest

from airflow_chat_provider.plugin import ChatPlugin
from airflow_chat_provider.task.link import OPERATOR_NAMES

AIRFLOW = tuple(map(int, version("apache-airflow-core").split(".")[:2]))
# The core loads it, and from 3.2 on the task SDK, which is all that a worker has.
LOADERS = ["airflow.plugins_manager"] + ["airflow.sdk.plugins_manager"] * (AIRFLOW >= (3, 2))


@pytest.mark.parametrize("loader", LOADERS)
def test_whoever_loads_it_takes_it_for_a_plugin_and_imports_next_to_nothing_for_it(loader):
    code = (
        f"import sys, {loader} as manager; had = {{*sys.modules}}\n"
        "from airflow_chat_provider.plugin import ChatPlugin\n"
        "loaded = {*sys.modules} - had\n"
        "assert issubclass(ChatPlugin, manager.AirflowPlugin)\n"
        "print(*loaded)"
    )
    # What is loaded before counts for nothing: where coverage is measured, coverage itself loads much.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}
    printed = subprocess.check_output([sys.executable, "-c", code], text=True, env=environment)
    ours = {"airflow_api", "airflow_api.plugin", "plugin", "task", "task.link"}
    assert set(printed.splitlines()[-1].split()) - {"airflow_chat_provider"} == {
        f"airflow_chat_provider.{name}" for name in ours
    }


def test_the_pages_are_below_one_path_of_airflows():
    (app,) = ChatPlugin.fastapi_apps
    assert app["url_prefix"] == "/chat"
    assert callable(app["app"])


def test_the_usage_page_has_a_place_in_the_navigation():
    view = ChatPlugin.external_views[0]
    assert (view["name"], view["href"], view["destination"]) == ("Chat usage", "chat/usage", "nav")


def test_there_is_a_tab_only_where_it_can_be_limited_to_our_operators():
    tabs = [view for view in ChatPlugin.external_views if view["destination"] != "nav"]
    assert bool(tabs) == (AIRFLOW >= (3, 4))
    for tab in tabs:
        assert (tab["name"], tab["destination"]) == ("Conversation", "task_instance")
        assert tab["applies_to"] == {"operator_name": OPERATOR_NAMES}


def test_nothing_of_it_is_on_everybodys_tasks():
    assert not ChatPlugin.global_operator_extra_links
