"""The errors that calls raise. All are plain data: pickle and ``to_dict`` / ``from_dict`` keep every field."""

from airflow_chat_provider.core.errors import (
    BudgetExceeded,
    ChatCompletionError,
    IncompleteReply,
    InvalidConnection,
    InvalidOutput,
    InvalidRequest,
    ProtocolError,
    RateLimited,
    StatusError,
    TransportError,
    TransportTimeout,
)

__all__ = [
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
]
