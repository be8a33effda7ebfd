"""What a name may be a misspelling of."""

from __future__ import annotations

import time

import pytest

from airflow_chat_provider.core.spelling import close_to, misspelling, plural, with_article

NAMES = ["function", "image_url", "max_tokens", "user", "system", "assistant", "top_p", "auto"]


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("usr", "user"),
        ("assitant", "assistant"),
        ("systme", "system"),
        ("imageUrl", "image_url"),
        ("image-url", "image_url"),
        ("max_tokns", "max_tokens"),
        ("maxtoken", "max_tokens"),
        ("topp", "top_p"),
        ("USER", "user"),
    ],
)
def test_a_slip_of_a_letter_or_two_is_a_misspelling(text: str, meant: str) -> None:
    assert misspelling(text, NAMES) == meant


@pytest.mark.parametrize(
    "text", ["builtin_function", "video_url", "min_tokens", "top_k", "ipython", "critic", "", "_", "a" * 10_000]
)
def test_a_word_of_its_own_is_not(text: str) -> None:
    assert misspelling(text, NAMES) is None


def test_the_nearest_name_wins_and_what_is_not_a_name_is_passed_over() -> None:
    assert misspelling("modl", ["mode", None, 5, "model"]) in ("mode", "model")
    assert misspelling("models_", ["model", "models"]) == "models"


def test_a_hint_names_one_or_none() -> None:
    assert close_to("tempreture", ["temperature", "top_p"]) == ["temperature"]
    assert close_to("zzz", ["temperature"]) == close_to("a" * 1000, ["a" * 1000]) == []


def test_many_long_names_take_no_time() -> None:
    names = [f"{'ab' * 90}{number}" for number in range(100_000)]
    began = time.process_time()
    misspelling("ab" * 95, names)
    assert time.process_time() - began < 2


@pytest.mark.parametrize(("name", "words"), [("int", "an int"), ("str", "a str"), ("Array", "an Array")])
def test_a_class_has_its_article(name: str, words: str) -> None:
    assert with_article(name) == words


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 rows"), (1, "1 row"), (2, "2 rows"), (12345, "12,345 rows"), (-1, "-1 rows")]
)
def test_a_count_has_its_noun_in_the_right_number(count: int, text: str) -> None:
    assert plural(count, "row") == text
