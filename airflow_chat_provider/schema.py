"""Checking a request without sending it."""

from airflow_chat_provider.core.request.rules import check_rules
from airflow_chat_provider.core.request.schema import DEFAULT_SCHEMA, SHIPPED, validate_request

__all__ = ["DEFAULT_SCHEMA", "SHIPPED", "check_rules", "validate_request"]
