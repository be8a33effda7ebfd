"""A request's digest: two requests with the same one are the same to a server, whichever row or batch they are for."""

from __future__ import annotations

import json
from collections.abc import Sequence
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

from airflow_chat_provider.core.answer.dialogue import first_form

if TYPE_CHECKING:
    from airflow_chat_provider.core.answer.dialogue import Wanted
    from airflow_chat_provider.core.types import JSONObject


def digest_of(base_url: str, request: JSONObject, files_identity: Sequence[Any] = ()) -> str:
    """32 hexadecimal digits for the request as it is sent to a server, in whatever order its keys stand.

    ``files_identity``: what tells the request's attachments from others, as ``transport.attachments.stamps`` gives it.
    """
    told = [base_url, request, *([files_identity] if files_identity else [])]
    text = json.dumps(told, sort_keys=True, separators=(",", ":"))
    return blake2b(text.encode(), digest_size=16).hexdigest()


def digest_of_row(base_url: str, request: JSONObject, wanted: Wanted, files_identity: Sequence[Any] = ()) -> str:
    """The digest of a row's request, with the schema that its answer has to fit.

    It is taken of the form that is sent first. What this process has learnt of a server does not change it, and so
    the next process finds the same one.
    """
    return digest_of(base_url, first_form(request, wanted), files_identity)
