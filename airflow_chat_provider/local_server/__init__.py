"""A real model on this machine behind the OpenAI API: ``python -m airflow_chat_provider.local_server``."""

from airflow_chat_provider.local_server.server import LocalServer, LocalServerError, installed_model

__all__ = ["LocalServer", "LocalServerError", "installed_model"]
