"""Errors are plain data: whatever carries them, every field arrives."""

from __future__ import annotations

import copy
import json
import pickle
from typing import Any

import pytest

from airflow_chat_provider import errors as public
from airflow_chat_provider.core import errors
from airflow_chat_provider.core.errors import ChatCompletionError, InvalidRequest, StatusError, TransportError

CLASSES = [cls for cls in vars(errors).values() if isinstance(cls, type) and issubclass(cls, ChatCompletionError)]
COMMON = {"status": 429, "code": "rate_limit", "request_id": "req_1", "retry_after": 2.5, "body": {"error": ["x"]}}
VALUES = {
    **COMMON,
    "path": "$.n",
    "keyword": "type",
    "field": "host",
    "sent": True,
    "final": True,
    "broken": True,
    "limit": "max_cost",
}


def full(cls: type[ChatCompletionError]) -> ChatCompletionError:
    return cls("Do this: it broke", **{name: VALUES[name] for name in cls.fields})


CARRIERS = {
    "pickle": lambda error: pickle.loads(pickle.dumps(error)),
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "json": lambda error: ChatCompletionError.from_dict(json.loads(json.dumps(error.to_dict()))),
}


@pytest.mark.parametrize("carrier", CARRIERS)
@pytest.mark.parametrize("cls", CLASSES)
def test_every_carrier_keeps_class_message_and_fields(cls: type[ChatCompletionError], carrier: str) -> None:
    sent = full(cls)
    got = CARRIERS[carrier](sent)
    assert type(got) is cls
    assert (str(got), got.message, got.args) == ("Do this: it broke",) * 2 + (("Do this: it broke",),)
    assert {name: getattr(got, name) for name in cls.fields} == {name: VALUES[name] for name in cls.fields}
    assert got.final == sent.final


@pytest.mark.parametrize("cls", CLASSES)
def test_fields_that_are_not_given_are_none_after_pickling(cls: type[ChatCompletionError]) -> None:
    got = pickle.loads(pickle.dumps(cls("It broke")))
    flags = {"final", "broken"}
    assert {name: getattr(got, name) for name in cls.fields if name not in flags} == dict.fromkeys(
        name for name in cls.fields if name not in flags
    )
    assert getattr(got, "broken", False) is False
    assert got.final is cls.final if "final" not in cls.fields else got.final is False


@pytest.mark.parametrize("cls", CLASSES)
def test_the_public_module_exports_each_class(cls: type[ChatCompletionError]) -> None:
    assert getattr(public, cls.__name__) is cls
    assert cls.__name__ in public.__all__


@pytest.mark.parametrize(
    ("name", "parents"),
    [
        ("InvalidRequest", (ChatCompletionError, ValueError)),
        ("InvalidConnection", (ChatCompletionError, ValueError)),
        ("InvalidOutput", (ChatCompletionError, ValueError)),
        ("TransportTimeout", (TransportError,)),
        ("RateLimited", (StatusError,)),
        ("ProtocolError", (ChatCompletionError,)),
        ("IncompleteReply", (ChatCompletionError,)),
    ],
)
def test_each_error_can_be_caught_by_its_bases(name: str, parents: tuple[type, ...]) -> None:
    assert all(issubclass(getattr(errors, name), parent) for parent in parents)


def test_only_what_was_not_sent_for_a_reason_of_ours_is_final_by_default() -> None:
    assert {cls.__name__ for cls in CLASSES if cls.final} == {"InvalidRequest", "InvalidConnection", "BudgetExceeded"}
    assert StatusError("x", final=True).final
    assert not StatusError("x").final


def test_an_unknown_field_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="ProtocolError has no field path, sent"):
        errors.ProtocolError("x", sent=True, path="$")


@pytest.mark.parametrize(
    ("data", "cls", "message"),
    [
        ({"error": "FromTheFuture", "message": "m", "status": 500, "flavour": 1}, ChatCompletionError, "m"),
        ({"error": "InvalidRequest", "message": "m", "path": "$"}, InvalidRequest, "m"),
        ({}, ChatCompletionError, ""),
    ],
)
def test_from_dict_reads_data_of_other_versions(data: Any, cls: type, message: str) -> None:
    found = ChatCompletionError.from_dict(data)
    assert (type(found), found.message) == (cls, message)
    assert found.status == data.get("status")
