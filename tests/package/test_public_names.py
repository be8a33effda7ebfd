"""What users import, from where they import it. A name that is taken away here breaks a DAG somewhere."""

import inspect
import re
from importlib import import_module
from pathlib import Path

import pytest

from airflow_chat_provider.airflow_api.compat import FINAL_BY_POLICY
from airflow_chat_provider.operators import ChatCompletionOperator

PUBLIC = {
    "decorators": ["chat_completion", "chat_completion_branch"],
    "errors": [
        "BudgetExceeded",
        "ChatCompletionError",
        "IncompleteReply",
        "InvalidConnection",
        "InvalidOutput",
        "InvalidRequest",
        "ProtocolError",
        "RateLimited",
        "StatusError",
        "TransportError",
        "TransportTimeout",
    ],
    "hooks": ["ChatCompletionHook"],
    "local_server": ["LocalServer", "LocalServerError", "installed_model"],
    "operators": ["ChatCompletionBatchOperator", "ChatCompletionBranchOperator", "ChatCompletionOperator"],
    "provider_info": ["get_provider_info"],
    "retry_policy": ["ChatCompletionRetryPolicy"],
    "results": ["read_errors", "read_results"],
    "schema": ["DEFAULT_SCHEMA", "SHIPPED", "check_rules", "validate_request"],
    "testing": [
        "BatchEnd",
        "BatchServer",
        "CallFault",
        "ChatServer",
        "End",
        "Received",
        "Reply",
        "batch_faults",
        "faults",
        "replies",
    ],
    "tools": ["tool_message"],
    "triggers": ["ChatCompletionTrigger"],
}
HOOK = ["acreate", "astream", "close", "create", "get_conn", "settings", "stream", "test_connection"]


@pytest.mark.parametrize(("path", "name"), [(path, name) for path, names in PUBLIC.items() for name in names])
def test_a_public_name_can_be_imported_from_its_public_path(path: str, name: str) -> None:
    module = import_module(f"airflow_chat_provider.{path}")
    if path == "retry_policy" and not FINAL_BY_POLICY:
        pytest.skip("this Airflow has no retry policies")
    assert getattr(module, name)


@pytest.mark.parametrize("path", PUBLIC)
def test_a_module_that_says_what_it_exports_exports_the_public_names(path: str) -> None:
    module = import_module(f"airflow_chat_provider.{path}")
    exported = getattr(module, "__all__", PUBLIC[path])
    assert sorted(exported) == sorted(PUBLIC[path])


@pytest.mark.parametrize("name", HOOK)
def test_the_hook_has_what_python_code_calls(name: str) -> None:
    from airflow_chat_provider.hooks import ChatCompletionHook

    assert hasattr(ChatCompletionHook, name)


@pytest.mark.parametrize(("path", "name"), [(path, name) for path, names in PUBLIC.items() for name in names])
def test_a_public_name_is_in_the_reference(path: str, name: str, project: Path) -> None:
    page = (project / "docs" / "reference" / f"{path}.md").read_text("utf-8")
    assert re.search(rf"^::: airflow_chat_provider\.{path}\.{name}$", page, re.MULTILINE)


@pytest.mark.parametrize("name", HOOK)
def test_the_reference_shows_what_python_code_calls(name: str, project: Path) -> None:
    page = (project / "docs" / "reference" / "hooks.md").read_text("utf-8")
    assert re.search(rf"members: \[.*\b{name}\b.*\]", page)


@pytest.mark.parametrize(
    ("operator", "page"),
    [
        ("ChatCompletionOperator", "operator.md"),
        ("ChatCompletionBranchOperator", "branching.md"),
        ("ChatCompletionBatchOperator", "batch.md"),
    ],
)
def test_the_page_of_an_operator_has_each_argument_and_says_which_are_templates(
    operator: str, page: str, project: Path
) -> None:
    cls = getattr(import_module("airflow_chat_provider.operators"), operator)
    section = (project / "docs" / page).read_text("utf-8").partition("| Argument |")[2].partition("\n\n")[0]
    rows = [line.split("|") for line in section.splitlines()[2:]]
    told = {name: cells[2].strip() for cells in rows for name in re.findall(r"`(\w+)`", cells[1])}
    taken = {
        name
        for name, parameter in inspect.signature(cls.__init__).parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY
    }
    # What both take is described once, unless it means something else in a batch.
    shared = inspect.signature(ChatCompletionOperator.__init__).parameters if page == "batch.md" else {}
    assert taken - set(shared) <= set(told) <= taken
    if page != "branching.md":
        templates = {"output" if name == "output_path" else name for name in cls.template_fields}
        assert {name for name, mark in told.items() if mark == "T"} == templates & set(told)


def test_a_reply_or_fault_of_the_test_server_that_a_page_names_is_there(project: Path) -> None:
    from airflow_chat_provider.testing import faults, replies

    pages = [project / "README.md", *project.glob("docs/*.md")]
    named = {name for page in pages for name in re.findall(r"\b(replies|faults)\.(\w+)", page.read_text("utf-8"))}
    assert named
    for module, name in named:
        assert hasattr({"replies": replies, "faults": faults}[module], name), f"{module}.{name}"


def test_the_links_of_the_readme_lead_somewhere_on_a_page_that_shows_it_alone(project: Path) -> None:
    """Such as the package index's: a path of this repository leads nowhere there."""
    readme = (project / "README.md").read_text("utf-8")
    targets = re.findall(r"\]\(([^)\s]+)\)", readme)
    assert [target for target in targets if not target.startswith(("https://", "#"))] == []
