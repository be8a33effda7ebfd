"""What an answer cost: as its server says, by the connection's prices, by public ones, or nobody knows."""

from __future__ import annotations

import asyncio
import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_chat_provider.core.answer.reply import Reply
from airflow_chat_provider.core.answer.usage import with_attempt
from airflow_chat_provider.core.connection.settings import Settings
from airflow_chat_provider.core.cost.prices import Rates
from airflow_chat_provider.transport import price_list, public_prices
from airflow_chat_provider.transport.price_list import PriceList
from tests.support.fuzzing import fuzz
from tests.unit.answer.test_usage import BODIES

USAGE = {"prompt_tokens": 1000, "completion_tokens": 100, "total_tokens": 1100}
OPENAI = "https://api.openai.com/v1"
MINE = {"gpt-4o*": Rates(Decimal(1), Decimal(2)), "mine": Rates(Decimal(3), Decimal(4))}


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    """What this process has told so far is forgotten."""
    price_list._tell_once.cache_clear()
    public_prices._warn.cache_clear()
    yield
    public_prices._loaded.clear()


@pytest.fixture
def genai() -> Any:
    return pytest.importorskip("genai_prices", reason="public prices come with the extra [prices]")


def prices(**settings: Any) -> PriceList:
    return PriceList(Settings(**settings))


def body(model: Any = "gpt-4o", usage: Any = USAGE, **more: Any) -> dict[str, Any]:
    return {"model": model, "usage": usage, **more}


class TestOfTheConnection:
    def test_the_answers_model_counts_before_the_one_that_was_asked_for(self) -> None:
        found = prices(prices=MINE)
        assert found.cost(body("gpt-4o-2024-08-06"), "mine") == Decimal("0.0012")
        assert found.cost(body("another"), "mine") == found.cost(body(None), "mine") == Decimal("0.0034")
        assert found.cost(body(["gpt-4o"]), {"a": 1}) is None

    def test_a_cost_that_the_server_states_wins_and_so_does_one_of_0(self) -> None:
        found = prices(prices=MINE)
        assert found.cost(body(usage={**USAGE, "cost": 0.5})) == Decimal("0.5")
        assert found.cost(body(usage={**USAGE, "cost": 0})) == 0
        assert found.cost(body(usage={"cost": 0.25}), "unknown") == Decimal("0.25")
        assert found.cost(body(usage={**USAGE, "cost": float("nan")})) == Decimal("0.0012")
        assert found.cost(body(usage={**USAGE, "cost": -1})) == Decimal("0.0012")

    def test_reasoning_that_only_the_total_counts_is_paid_for(self) -> None:
        usage = {"prompt_tokens": 1000, "completion_tokens": 100, "total_tokens": 1500}
        assert prices(prices=MINE).cost(body(usage=usage)) == Decimal("0.002")

    @pytest.mark.parametrize(
        "answer",
        [None, "text", [], {}, {"usage": None}, {"usage": []}, {"usage": {"prompt_tokens": -1}}, {"usage": {"x": 1}}],
        ids=str,
    )
    def test_a_body_without_counts_has_no_cost(self, answer: Any) -> None:
        assert prices(prices=MINE).cost(answer, "mine") is None

    def test_a_reply_has_the_cost_and_currency_of_its_own_answer_and_so_has_each_attempt_before(self) -> None:
        earlier = Reply(500, body("mine"))
        reply = prices(prices=MINE, currency="EUR").priced(Reply(200, body(), earlier=(earlier, Reply(500, None))))
        assert (reply.cost, reply.currency) == (Decimal("0.0012"), "EUR")
        assert [(one.cost, one.currency) for one in reply.earlier] == [(Decimal("0.0034"), "EUR"), (None, None)]

    def test_names_that_servers_make_up_do_not_fill_the_memory(self) -> None:
        found = prices(prices=MINE)
        for number in range(3000):
            found.cost(body(f"m{number}"))
        assert len(found._found) <= 1024

    @fuzz(200)
    @given(BODIES, st.sampled_from(["mine", None, "another"]))
    def test_whatever_a_server_sends_nothing_is_raised(self, answer: Any, asked: Any) -> None:
        found = prices(prices=MINE, base_url="http://localhost:8000/v1")
        reply = found.priced(Reply(200, answer, earlier=with_attempt((), Reply(500, answer))), asked)
        assert reply.cost is None or (reply.cost.is_finite() and reply.cost >= 0)


class TestWhatIsNotKnown:
    def told(self, caplog: pytest.LogCaptureFixture, **settings: Any) -> list[tuple[str, str]]:
        caplog.set_level(logging.DEBUG, "airflow_chat_provider")
        for _ in range(3):
            found = prices(base_url="http://localhost:8000/v1", **settings)
            assert found.cost(body("ano\nther"), "mine") is None
            assert found.cost(body("ano\nther"), "mine") is None
        return [(record.levelname, record.getMessage()) for record in caplog.records]

    def test_it_is_told_once_for_whoever_has_set_prices(self, caplog: pytest.LogCaptureFixture) -> None:
        ((level, message),) = self.told(caplog, prices={"gpt-4o": MINE["gpt-4o*"]})
        assert level == "WARNING"
        assert message.startswith("Add model ")
        assert "'chat_default'" in message
        assert "\n" not in message

    def test_and_for_whoever_has_set_a_limit(self, caplog: pytest.LogCaptureFixture) -> None:
        ((level, _),) = self.told(caplog, max_cost=Decimal(1))
        assert level == "WARNING"

    def test_others_are_not_disturbed(self, caplog: pytest.LogCaptureFixture) -> None:
        ((level, _),) = self.told(caplog)
        assert level == "DEBUG"

    def test_an_answer_without_counts_is_not_a_model_without_a_price(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.DEBUG, "airflow_chat_provider")
        assert prices(prices=MINE).cost(body("another", None)) is None
        assert prices(prices=MINE, base_url="http://localhost/v1").cost(body("another", {"total_tokens": 5})) is None
        assert prices(prices=MINE).cost(body("mine", {"total_tokens": 5})) is None
        assert not caplog.records


@pytest.mark.usefixtures("genai")
class TestPublicPrices:
    def test_they_hold_for_models_that_the_connection_does_not_name(self) -> None:
        found = prices(base_url=OPENAI, prices={"gpt-4o": MINE["gpt-4o*"]})
        assert found.cost(body("gpt-4o")) == Decimal("0.0012")
        # $0.15 and $0.60 for a million; half of the input price for what came from the cache.
        usage = {**USAGE, "prompt_tokens_details": {"cached_tokens": 400}}
        assert found.cost(body("gpt-4o-mini", usage)) == Decimal("0.00018")
        assert found.rates("gpt-4o-mini") is not None

    def test_the_connections_price_of_the_asked_model_holds_before_the_public_one_of_the_answers(self) -> None:
        found = prices(base_url=OPENAI, prices={"gpt-4o": Rates(Decimal(1), Decimal(2))})
        assert found.cost(body("gpt-4o-2024-08-06"), "gpt-4o") == Decimal("0.0012")

    @pytest.mark.parametrize(
        "base_url",
        [
            *("http://127.0.0.1:8000/v1", "http://localhost:11434/v1", "http://vllm:8000/v1", "http://[::1]/v1"),
            *("https://llm.example.com/v1", "https://api.openai.com.example.com/v1", "https://10.0.0.1/v1"),
            "https://example.com/https://api.openai.com/v1",
        ],
    )
    def test_a_server_of_ones_own_is_not_priced_as_if_it_was_openai(self, base_url: str) -> None:
        assert prices(base_url=base_url).cost(body("gpt-4o")) is None

    def test_a_server_on_this_machine_or_network_does_not_even_load_them(self) -> None:
        for base_url in ("http://127.0.0.1:8000/v1", "http://localhost/v1", "http://vllm:8000/v1"):
            assert prices(base_url=base_url).rates("gpt-4o") is None
        assert not public_prices._loaded

    def test_they_are_not_loaded_where_they_are_not_needed(self) -> None:
        found = prices(base_url=OPENAI, prices=MINE)
        found.cost(body("mine"))
        found.cost(body("another"), "gpt-4o-mine")
        found.cost(body("another", None))
        found.cost(body("another", {**USAGE, "cost": 0.1}))
        prices(base_url=OPENAI, currency="EUR").cost(body())
        assert not public_prices._loaded

    def test_they_are_in_dollars_so_they_do_not_hold_for_another_currency(self) -> None:
        assert prices(base_url=OPENAI, currency="EUR").cost(body()) is None

    @pytest.mark.parametrize(
        ("base_url", "model", "known"),
        [
            (OPENAI, "gpt-4o", True),
            (OPENAI, "GPT-4o", True),
            (OPENAI, "gpt-4o-2024-08-06", True),
            (OPENAI, "gpt-5-nano-2025-08-07", True),
            (OPENAI, "my-model", False),
            (OPENAI, "gpt-4o-of-mine", False),
            (OPENAI, "gpt-5-nano-special", False),
            (OPENAI, "ft:gpt-4o-mini:acme", False),
            (OPENAI, "text-moderation-of-mine", False),
            (OPENAI, "", False),
            (OPENAI, "gpt-4o" * 1000, False),
            ("https://api.anthropic.com/v1", "claude-sonnet-4-5-20250929", True),
            ("https://api.anthropic.com/v1", "claude-sonnet-4-5-turbo", False),
            ("https://api.deepseek.com", "deepseek-chat", True),
            ("https://api.deepseek.com", "deepseek-chat-v99", False),
            ("https://acme.openai.azure.com/openai/v1", "gpt-4o-2024-08-06", True),
            ("https://acme.openai.azure.com/openai/v1", "my-deployment", False),
            ("https://generativelanguage.googleapis.com/v1beta/openai", "gemini-2.5-pro", True),
            ("https://api.groq.com/openai/v1", "llama-3.3-70b-versatile", True),
            ("https://openrouter.ai/api/v1", "openai/gpt-4o", True),
            ("https://openrouter.ai/api/v1", "gpt-4o", False),
        ],
    )
    def test_a_name_that_only_begins_like_a_models_is_not_taken_for_it(
        self, base_url: str, model: str, known: bool
    ) -> None:
        assert (prices(base_url=base_url).rates(model) is not None) is known
        assert (prices(base_url=base_url).cost(body(model)) is not None) is known

    def test_a_long_input_has_the_price_of_its_length(self) -> None:
        found = prices(base_url="https://generativelanguage.googleapis.com/v1beta/openai")
        short, long = (
            found.cost(body("gemini-2.5-pro", {"prompt_tokens": count, "completion_tokens": 1000}))
            for count in (200_000, 200_001)
        )
        assert (short, long) == (Decimal("0.26"), Decimal("0.5150025"))
        rates = found.rates("gemini-2.5-pro")
        assert rates is not None
        assert (rates.input, rates.output) == (Decimal("1.25"), Decimal(10))

    @pytest.mark.parametrize("model", ["gpt-4o", "gpt-5.4-mini", "gpt-4o-mini", "o3-mini", "gpt-4.1-nano"])
    @pytest.mark.parametrize("length", [0, 1, 999, 200_000, 200_001, 300_000])
    def test_they_are_what_the_package_itself_computes(self, genai: Any, model: str, length: int) -> None:
        counts = {"input_tokens": length, "output_tokens": 77, "cache_read_tokens": length // 3}
        there = genai.calc_price(genai.Usage(**counts), model, provider_api_url=OPENAI)
        cached = {"cached_tokens": length // 3}
        usage = {"prompt_tokens": length, "completion_tokens": 77, "prompt_tokens_details": cached}
        assert prices(base_url=OPENAI).cost(body(model, usage)) == there.total_price

    def test_tokens_with_prices_of_their_own_have_them(self, genai: Any) -> None:
        usage = {**USAGE, "prompt_tokens_details": {"audio_tokens": 600}}
        cost = prices(base_url=OPENAI).cost(body("gpt-audio", usage))
        there = genai.Usage(input_tokens=1000, output_tokens=100, input_audio_tokens=600)
        assert cost == genai.calc_price(there, "gpt-audio", provider_api_url=OPENAI).total_price
        plain = prices(base_url=OPENAI).cost(body("gpt-audio"))
        assert cost is not None
        assert plain is not None
        assert cost > 5 * plain

    def test_speech_is_not_priced_as_text_where_its_price_is_not_known(self) -> None:
        usage = {**USAGE, "completion_tokens_details": {"audio_tokens": 60}}
        found = prices(base_url=OPENAI)
        assert (found.cost(body("gpt-4o")), found.cost(body("gpt-4o", usage))) == (Decimal("0.0035"), None)

    def test_counts_that_contradict_each_other_have_no_cost(self) -> None:
        usage = {**USAGE, "prompt_tokens_details": {"audio_tokens": 6000}}
        assert prices(base_url=OPENAI).cost(body("gpt-audio", usage)) is None

    def test_a_price_for_each_request_is_among_them(self) -> None:
        found = prices(base_url="https://api.perplexity.ai").cost(body("sonar"))
        assert found is not None
        assert found > Decimal("0.0011") + Decimal("0.001")

    def test_a_service_tier_has_its_own_price_and_an_unknown_one_has_none(self) -> None:
        found = prices(base_url=OPENAI)
        usual = found.cost(body("gpt-5", service_tier="default"))
        assert usual == found.cost(body("gpt-5")) == found.cost(body("gpt-5", service_tier=None))
        flex = found.cost(body("gpt-5", service_tier="flex"))
        assert usual is not None
        assert flex is not None
        assert flex < usual
        assert found.cost(body("gpt-5", service_tier="golden")) is None

    def test_their_version_and_date_are_told_once(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.INFO, "airflow_chat_provider")
        for model in ("gpt-4o", "gpt-4o-mini", "my-model"):
            prices(base_url=OPENAI).rates(model)
        (record,) = caplog.records
        assert record.levelname == "INFO"
        assert record.getMessage().startswith("What models cost is known from genai-prices ")
        assert "whose newest price is of 20" in record.getMessage()

    def test_a_loop_loads_them_in_a_thread(self) -> None:
        async def price() -> Reply:
            found = prices(base_url=OPENAI)
            assert found._public is not None
            assert found._public.is_unread
            return await found.apriced(Reply(200, body()))

        assert asyncio.run(price()).cost == Decimal("0.0035")
        asyncio.run(prices(base_url=OPENAI).get_ready("gpt-4o"))

    @pytest.mark.parametrize("broken", ["find", "prices", "negative", "nothing"])
    def test_whatever_the_package_does_nothing_is_raised(
        self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, broken: str
    ) -> None:
        def fail(*_: object, **__: object) -> Any:
            raise RuntimeError("secret")

        price = SimpleNamespace(input_mtok=Decimal(-1), output_mtok=Decimal(1))
        model = SimpleNamespace(
            id="gpt-4o", match=None, get_prices=fail if broken == "prices" else lambda *_: price, price_variants=None
        )
        find = fail if broken == "find" else lambda *_, **__: model
        provider = SimpleNamespace(api_pattern=OPENAI, find_model=find)
        data = SimpleNamespace(providers=[provider]) if broken != "nothing" else SimpleNamespace()
        monkeypatch.setattr(public_prices, "_loaded", [data])
        assert prices(base_url=OPENAI).cost(body()) is None
        assert prices(base_url=OPENAI).cost(body()) is None
        assert "secret" not in caplog.text
        assert len([one for one in caplog.records if one.levelname == "WARNING"]) == 1

    def test_a_package_that_cannot_be_imported_is_told_once(
        self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        monkeypatch.setitem(sys.modules, "genai_prices.data_snapshot", None)
        assert prices(base_url=OPENAI).cost(body()) is None
        assert prices(base_url=OPENAI).cost(body()) is None
        (record,) = [one for one in caplog.records if one.levelname == "WARNING"]
        assert record.getMessage().startswith("Set the extra 'prices'")

    def test_nothing_is_sent_for_them_and_no_dag_file_loads_them(self) -> None:
        code = """
import json, sys
calls = []
sys.addaudithook(lambda name, _: calls.append(name) if name in ("socket.connect", "socket.getaddrinfo") else None)
from airflow.sdk import DAG
from airflow_chat_provider.operators import ChatCompletionBatchOperator, ChatCompletionOperator
with DAG("d", schedule=None):
    ChatCompletionOperator(task_id="a", model="gpt-4o", prompt="Hi", max_cost=1)
    ChatCompletionBatchOperator(task_id="b", model="gpt-4o", prompt="Hi", input=[], output="/tmp/out")
from airflow_chat_provider.core.connection.settings import settings_from
from airflow_chat_provider.transport.price_list import PriceList
from tests.support.fuzzing import fuzz
from tests.unit.answer.test_usage import BODIES
settings = settings_from("c", host="https://api.openai.com/v1", extra='{"prices": {"m": {"input": 1, "output": 1}}}')
prices = PriceList(settings)
assert prices.rates("m") is not None
before = "genai_prices" in sys.modules
cost = prices.cost({"model": "gpt-4o", "usage": {"prompt_tokens": 1000, "completion_tokens": 100}})
print(json.dumps([before, str(cost), calls]))
"""
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout.splitlines()[-1]) == [False, "0.003500000000", []]


def test_without_the_package_only_the_connections_prices_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(public_prices, "_is_installed", lambda: False)
    found = prices(base_url=OPENAI, prices=MINE)
    assert (found.cost(body("mine")), found.cost(body("gpt-5"))) == (Decimal("0.0034"), None)
    assert not public_prices._loaded
