"""Tokens of requests: by tiktoken, with a small encoding of these tests' own; or a guess, where it has none."""

from __future__ import annotations

import base64
import hashlib
import importlib
from pathlib import Path
from typing import Any

import pytest

from airflow_chat_provider.batch import token_count
from airflow_chat_provider.batch.token_count import Counted, TokenCount
from airflow_chat_provider.core.cost.estimate import Estimate, sure_tokens

tiktoken = pytest.importorskip("tiktoken", reason="the extra `tokens` is not installed")
load = importlib.import_module("tiktoken.load")
registry = importlib.import_module("tiktoken.registry")

WORDS = rb"Hello| world|user|system|Ann|{}".split(b"|")
RANKS = {bytes([byte]): byte for byte in range(256)}
NAME = "o200k_base"
URL = token_count._FILES[NAME][0]


def ranks() -> dict[bytes, int]:
    """Every byte, and the pieces that some words are joined from, one after the other."""
    found = dict(RANKS)
    for word in WORDS:
        for end in range(2, len(word) + 1):
            found.setdefault(word[:end], len(found))
    return found


def made(name: str = NAME) -> Any:
    return tiktoken.Encoding(name, pat_str=r" ?\w+|\W", mergeable_ranks=ranks(), special_tokens={"<|end|>": 9_999})


@pytest.fixture(autouse=True)
def no_encodings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """tiktoken has no file, and no encoding in memory."""
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(registry, "ENCODINGS", {})


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    """tiktoken has the encoding of new models in memory."""
    monkeypatch.setitem(registry.ENCODINGS, NAME, made())


def count(request: dict[str, Any]) -> Counted:
    return TokenCount().of(request, sure_tokens(request))


def asking(*messages: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"model": "gpt-5-mini", "messages": list(messages), **more}


@pytest.mark.usefixtures("loaded")
class TestCounting:
    def test_a_message_has_its_texts_and_three_tokens_and_the_answer_begins_with_three(self) -> None:
        request = asking({"role": "system", "content": "Hello"}, {"role": "user", "content": "Hello world"})
        assert count(request) == Counted((1 + 1 + 3) + (1 + 2 + 3) + 3, NAME, is_exact=True)

    def test_a_name_takes_one_more(self) -> None:
        assert count(asking({"role": "user", "name": "Ann", "content": "Hello"})).tokens == 1 + 1 + 1 + 1 + 3 + 3

    def test_the_texts_of_parts_count_and_pictures_do_not(self) -> None:
        picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 10_000}}
        parts = [{"type": "text", "text": "Hello"}, picture, {"type": "refusal", "refusal": "Hello world"}]
        assert count(asking({"role": "user", "content": parts})).tokens == 1 + 1 + 2 + 3 + 3

    def test_tools_and_schemas_count_as_their_json(self) -> None:
        plain = asking({"role": "user", "content": "Hello"})
        assert count({**plain, "tools": {}}).tokens == count(plain).tokens + 2  # { and }
        assert count({**plain, "response_format": {"type": "json_object"}}).tokens > count(plain).tokens + 5

    def test_what_looks_like_a_special_token_is_text(self) -> None:
        assert count(asking({"role": "user", "content": "<|end|>"})).tokens > 1 + 1 + 3 + 3

    def test_a_long_text_is_counted_in_pieces(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(token_count, "_CUT", 5)
        assert count(asking({"role": "user", "content": "Hello" * 40})).tokens == 1 + 40 + 3 + 3

    def test_counts_that_are_kept_stay_few(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(token_count, "_KEPT", 100)
        counts = TokenCount()
        for number in range(1000):
            counts.of(asking({"role": "user", "content": f"Hello {number}"}), Estimate(0))
        assert sum(len(text) for _, text in counts._known) <= 100

    @pytest.mark.parametrize("messages", [None, "Hello", [None, "x"], [{}]], ids=["none", "text", "others", "empty"])
    def test_what_no_schema_has_checked_is_counted_as_far_as_it_goes(self, messages: Any) -> None:
        assert count({"model": "gpt-5-mini", "messages": messages}).tokens >= 3


class TestEncodings:
    def test_without_an_encoding_the_tokens_are_guessed(self) -> None:
        request = asking({"role": "user", "content": "a" * 400})
        assert count(request) == Counted(100, token_count.BYTES, is_exact=False)

    @pytest.mark.usefixtures("loaded")
    @pytest.mark.parametrize(
        ("model", "is_exact"),
        [("gpt-5.4-nano", True), ("openai/gpt-4o-mini", True), ("gpt-4", False), ("llama-4", False)],
    )
    def test_a_model_with_an_encoding_of_its_own_is_counted_exactly(self, model: str, is_exact: bool) -> None:
        assert count({"model": model, "messages": []}) == Counted(3, NAME, is_exact)

    @pytest.mark.usefixtures("loaded")
    @pytest.mark.parametrize("model", [None, 5], ids=["none", "number"])
    def test_without_a_model_the_tokens_are_guessed(self, model: Any) -> None:
        assert count({"model": model, "messages": []}).by == token_count.BYTES

    @pytest.mark.usefixtures("loaded")
    def test_models_without_end_are_not_kept(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(token_count, "MODELS", 10)
        counts = TokenCount()
        for number in range(50):
            counts.of({"model": f"m{number}"}, Estimate(0))
        assert len(counts._ways) <= 10


class TestFiles:
    """tiktoken's own cache, with the file of an encoding that these tests made."""

    @pytest.fixture
    def file(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
        """The file under the name that tiktoken gives it, which both sides know by its digest."""
        lines = (base64.b64encode(piece) + b" %d\n" % rank for piece, rank in ranks().items())
        path = tmp_path / hashlib.sha1(URL.encode()).hexdigest()
        path.write_bytes(b"".join(lines))
        digest = hashlib.sha256(path.read_bytes()).hexdigest()

        def construct() -> dict[str, Any]:
            loaded = load.load_tiktoken_bpe(URL, digest)
            return {"name": NAME, "pat_str": r" ?\w+|\W", "mergeable_ranks": loaded, "special_tokens": {}}

        tiktoken.list_encoding_names()  # finds the constructors
        monkeypatch.setitem(registry.ENCODING_CONSTRUCTORS, NAME, construct)
        monkeypatch.setitem(token_count._FILES, NAME, (URL, digest))
        return path

    @pytest.fixture(autouse=True)
    def no_downloads(self, monkeypatch: pytest.MonkeyPatch) -> list[str]:
        """What tiktoken would have downloaded."""
        wanted: list[str] = []

        def read_file(place: str) -> bytes:
            wanted.append(place)
            raise OSError("no network")

        monkeypatch.setattr(load, "read_file", read_file)
        return wanted

    def test_an_encoding_on_the_disk_counts(self, file: Path) -> None:
        assert count(asking({"role": "user", "content": "Hello world"})) == Counted(1 + 2 + 3 + 3, NAME, is_exact=True)

    @pytest.mark.parametrize("variable", ["DATA_GYM_CACHE_DIR", None], ids=["older", "temporary"])
    def test_it_is_found_where_tiktoken_looks(
        self, file: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, variable: str | None
    ) -> None:
        monkeypatch.delenv("TIKTOKEN_CACHE_DIR")
        folder = tmp_path / "data-gym-cache"
        folder.mkdir()
        file.rename(folder / file.name)
        if variable is None:
            monkeypatch.delenv("DATA_GYM_CACHE_DIR", raising=False)
            monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
        else:
            monkeypatch.setenv(variable, str(folder))
        assert count(asking()).by == NAME

    def test_nothing_is_downloaded_and_no_file_is_removed(self, file: Path, no_downloads: list[str]) -> None:
        file.write_bytes(b"cut off")
        assert count(asking()).by == token_count.BYTES
        assert file.read_bytes() == b"cut off"
        file.unlink()
        assert count(asking()).by == token_count.BYTES
        assert no_downloads == []

    def test_a_cache_that_is_turned_off_has_no_encoding(
        self, file: Path, monkeypatch: pytest.MonkeyPatch, no_downloads: list[str]
    ) -> None:
        monkeypatch.setenv("TIKTOKEN_CACHE_DIR", "")
        assert count(asking()).by == token_count.BYTES
        assert no_downloads == []

    def test_the_digests_are_those_that_tiktoken_knows(self) -> None:
        openai_public = importlib.import_module("tiktoken_ext.openai_public")
        for name, parts in token_count._FILES.items():
            assert set(parts) <= set(_constants(getattr(openai_public, name)))


def _constants(function: Any) -> list[Any]:
    return [value for value in function.__code__.co_consts if isinstance(value, str)]
