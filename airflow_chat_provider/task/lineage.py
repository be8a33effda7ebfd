"""What is known of a task's work, for whoever collects lineage: the model, what it took, and the files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow_chat_provider.airflow_api.lineage import uri_of
from airflow_chat_provider.templates.dag_templates import markers

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator

    from airflow_chat_provider.task.arguments import Try


_TEXTS = ("rejected",)  # of a usage: what was wrong with answers may name what stands in them


class File(NamedTuple):
    """A file, or a folder with files. ``rows``: how many a batch reads or has written there, if it is a batch."""

    uri: str
    rows: int | None = None


class Facts(NamedTuple):
    """They stay with the task: OpenLineage asks in a process of its own, which must not ask Airflow for XComs."""

    configuration: Mapping[str, Any]
    """The XCom of that name: ``model``, ``base_url`` and ``request_schema`` are read."""
    usage: Mapping[str, Any] | None = None
    """See ``counts``."""
    rows: Mapping[str, Any] | None = None
    """Of a batch: how its rows ended."""
    inputs: tuple[File, ...] = ()
    outputs: tuple[File, ...] = ()

    @property
    def for_outlets(self) -> dict[str, Any]:
        """What the events of the task's assets are told."""
        return {name: value for name, value in (("usage", self.usage), ("rows", self.rows)) if value is not None}


def of_call(this: Try, usage: Mapping[str, Any] | None) -> Facts:
    """The facts about a task whose calls have ended."""
    files = tuple(File(uri_of(path)) for path in this.attachments.paths)
    return Facts(this.configuration, counts(usage), inputs=files)


def counts(usage: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """The XCom ``usage``, without texts: more people see an asset than the XComs of the task that made it."""
    return None if usage is None else {key: value for key, value in usage.items() if key not in _TEXTS}


def before(task: BaseOperator) -> Facts:
    """What is known of a task before its connection is read."""
    schema = getattr(task, "request_schema", None) if getattr(task, "names_schema", False) else None
    return Facts({"model": named_model(task), "request_schema": schema})


def named_model(task: BaseOperator) -> str | None:
    """The model that a task names, as far as no template hides it, such as one for the rows of a batch."""
    request = getattr(task, "request", None)
    is_template = markers()
    for model in (getattr(task, "model", None), request.get("model") if isinstance(request, Mapping) else None):
        if isinstance(model, str) and model and not is_template(model):
            return model
    return None
