"""What Airflow's UI shows of a chat completion: two pages, and the ways that lead to them.

Every process of Airflow loads this plugin: workers and DAG processors too, which have no use for it. So it imports next
to nothing.
"""

from __future__ import annotations

from typing import Any

from airflow_chat_provider.airflow_api.plugin import TABS_BY_OPERATOR, AirflowPlugin
from airflow_chat_provider.task.link import OPERATOR_NAMES, ConversationLink


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Answer a request in the API server. Nobody else needs what that takes."""
    from airflow_chat_provider.plugin import pages

    await pages.app(scope, receive, send)


# Airflow's UI takes these addresses as relative to its own base path, which may have a prefix.
_USAGE = {
    "name": "Chat usage",
    "href": "chat/usage",
    "destination": "nav",
    "category": "browse",
    "url_route": "chat-usage",
}
_TAB = {
    "name": "Conversation",
    "href": "chat/conversation?dag_id={DAG_ID}&run_id={RUN_ID}&task_id={TASK_ID}&map_index={MAP_INDEX}",
    "destination": "task_instance",
    "url_route": "chat-conversation",
    "applies_to": {"operator_name": OPERATOR_NAMES},
}
_VIEWS: list[Any] = [_USAGE, _TAB] if TABS_BY_OPERATOR else [_USAGE]
_APPS: list[Any] = [{"name": "Chat", "app": app, "url_prefix": "/chat"}]
_LINKS: list[Any] = [ConversationLink()]


class ChatPlugin(AirflowPlugin):
    """The pages "Conversation" and "Chat usage". They are static files, which read Airflow's REST API as their user."""

    name = "airflow_chat"
    fastapi_apps = _APPS
    external_views = _VIEWS
    operator_extra_links = _LINKS
