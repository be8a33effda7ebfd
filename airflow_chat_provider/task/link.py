"""The link "Conversation" on a task instance in Airflow's UI.

Airflow knows two kinds of such links. A plugin's is found by the API server, by the operator's name and module, when
somebody looks at the task instance; so nothing runs on workers for our own operators. A user's subclass has a name that
no plugin can know: it has the link itself, and its worker pushes it as an XCom.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, ClassVar

_PACKAGE = __name__.partition(".")[0]

_OPERATORS = {
    "operators": ("ChatCompletionOperator", "ChatCompletionBranchOperator", "ChatCompletionBatchOperator"),
    "decorators": ("ChatCompletionDecoratedOperator", "ChatCompletionBranchDecoratedOperator"),
}
"""All of them, by the module that is their public path. To import them would cost every process of Airflow too much."""

OPERATOR_NAMES = [*_OPERATORS["operators"], "@task.chat_completion", "@task.chat_completion_branch"]
"""The same as Airflow's UI names them."""


class _Name(str):
    """The name of a class.

    Airflow compares a mapped task twice: once by name and module, as any task, and once more by whether its name is
    *within* this one. The second way would give our link to any mapped "Operator" or "BranchOperator".
    """

    __slots__ = ()

    def __contains__(self, part: object) -> bool:
        return False


class ConversationLink:
    """It has what Airflow asks of a link. Airflow's own base class would be one more import in each process."""

    name = "Conversation"
    xcom_key = "_link_ConversationLink"
    operators: ClassVar[list[Any]] = [
        SimpleNamespace(__name__=_Name(name), __module__=f"{_PACKAGE}.{module}")
        for module, names in _OPERATORS.items()
        for name in names
    ]

    def get_link(self, operator: Any, *, ti_key: Any) -> str:  # noqa: ARG002 - the signature is Airflow's
        """The address of the page, for a browser that is in Airflow's UI: relative to its base path.

        ``ti_key`` is a key in the API server, and the running task instance in a worker. A worker need not know
        ``[api] base_url``, and users may come by another host name than it has.
        """
        from urllib.parse import quote, urlencode

        where = {
            "dag_id": ti_key.dag_id,
            "run_id": ti_key.run_id,
            "task_id": ti_key.task_id,
            "map_index": ti_key.map_index if ti_key.map_index is not None else -1,
        }
        region = getattr(ti_key, "region_id", None)
        if region is not None and region.int:  # from Airflow 3.4 on, a task within a loop
            where |= {"region_id": region, "region_index": ti_key.region_index}
        return f"chat/conversation?{urlencode(where, safe='', quote_via=quote)}"


def links_of(cls: Any) -> Any:
    """The ``operator_extra_links`` that a user's subclass should have: its own, and ours."""
    links = cls.operator_extra_links
    if isinstance(links, property) or any(link.name == ConversationLink.name for link in links):
        return links  # only the class itself knows what a property returns
    return (*links, ConversationLink())
