"""A table of digests: nothing is lost in it, whatever falls on one place."""

from __future__ import annotations

import random

import pytest

from airflow_chat_provider.batch.output.digest_table import DigestTable, short


def test_each_digest_has_its_number_and_others_have_none() -> None:
    chance = random.Random(7)
    digests = [chance.getrandbits(64) for _ in range(2000)]
    table = DigestTable(1000)
    for number, digest in enumerate(digests[:1000]):
        assert table.add(digest, number) is None
    assert [table.get(digest) for digest in digests] == [*range(1000), *[None] * 1000]


def test_the_first_number_stays() -> None:
    table = DigestTable(3)
    assert [table.add(5 << 32, number) for number in (7, 8, 9)] == [None, 7, 7]
    assert table.get(5 << 32) == 7


@pytest.mark.parametrize("count", [0, 1, 9])
def test_digests_that_fall_on_one_place_are_told_apart(count: int) -> None:
    table = DigestTable(count)
    digests = [(number + 1) << 32 for number in range(count)]  # the low half decides about the place
    for number, digest in enumerate(digests):
        table.add(digest, number)
    assert [table.get(digest) for digest in digests] == list(range(count))
    assert table.get(99 << 32) is None


def test_a_digest_of_zeros_is_one_too() -> None:
    table = DigestTable(1)
    assert table.get(0) is None
    table.add(0, 3)
    assert table.get(0) == 3


def test_a_table_takes_the_first_64_bits() -> None:
    assert short("ff" * 16) == short(b"ff" * 16) == 2**64 - 1


@pytest.mark.parametrize("text", ["no digest", "", "-1"])
def test_what_is_not_a_digest_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"invalid literal|sign"):
        short(text)
