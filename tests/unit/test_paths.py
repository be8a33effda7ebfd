"""JSON paths as an error shows them."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_chat_provider.core.paths import join, step


@pytest.mark.parametrize(
    ("keys", "path"),
    [
        ((), "$"),
        (("messages", 0, "content"), "$.messages[0].content"),
        (("logit_bias", "50256"), "$.logit_bias['50256']"),
        (("a b", "it's", ""), "$['a b']['it\\'s']['']"),
        (("größe",), "$['größe']"),
        (("class",), "$.class"),
        (("line\nbreak", "half\ud800"), "$['line\\nbreak']['half\\ud800']"),
        ((None,), "$.None"),
    ],
)
def test_a_path_names_each_step(keys: tuple[Any, ...], path: str) -> None:
    assert join(keys) == path
    path.encode()


def test_a_long_key_is_cut() -> None:
    assert step("-" * 64) == f"['{'-' * 64}']"
    assert step("-" * 65) == f"['{'-' * 63}…']"


def test_a_path_may_start_elsewhere() -> None:
    assert join([0], "messages") == "messages[0]"
