"""Misspelt and unknown names at the top level of a request."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_chat_provider.core.errors import InvalidRequest
from airflow_chat_provider.core.request.rules import check_rules
from airflow_chat_provider.core.request.rules.names import API_NAMES, check
from airflow_chat_provider.core.request.rules.report import Report
from airflow_chat_provider.core.servers import server_at
from tests.support.bodies import shipped
from tests.support.rule_requests import AZURE, HI, OPENAI, VLLM, request

SLIPS = {
    "tempreture": "temperature",
    "Temperature": "temperature",
    "maxTokens": "max_tokens",
    "max-tokens": "max_tokens",
    "max_completion_token": "max_completion_tokens",
    "mesages": "messages",
    "message": "messages",
    "modle": "model",
    "topp": "top_p",
    "log_probs": "logprobs",
    "logits_bias": "logit_bias",
    "steam": "stream",
    "stpo": "stop",
    "tool": "tools",
    "tool_choices": "tool_choice",
    "frequence_penalty": "frequency_penalty",
    "respose_format": "response_format",
    "response_fromat": "response_format",
    "parralel_tool_calls": "parallel_tool_calls",
    "reasoningEffort": "reasoning_effort",
    "metdata": "metadata",
}
# What the API or a server of the kind may well add, and some have added.
_PLAUSIBLE = """
    agents audio_format background citations conversation include input instructions language locale
    max_output_tokens max_prompt_tokens max_tool_calls min_completion_tokens min_logprobs model_id model_name
    moderation_model output previous_response_id prompt prompt_cache_scope prompt_cache_ttl prompt_id
    reasoning_summary response_modalities response_schema response_type safety_level safety_settings score
    service_region service_time skills steps stop_reason stop_words stream_format stream_tokens tags temp
    temperature_decay text_format timezone tool_config tool_resources top_h top_n truncation usage user_id
    user_location voice web_search
"""
PLAUSIBLE = _PLAUSIBLE.split()
# Parameters of vLLM, SGLang, llama.cpp, LiteLLM, Mistral, Groq, OpenRouter, Anthropic, Gemini and others that look most
# like one of the API's.
_VENDORS = """
    add_generation_prompt allowed_openai_params best_of continue_final_message debug echo extra_body fallbacks
    guided_json include_reasoning logits_processors max_new_tokens min_p min_tokens mock_response models n_predict
    n_probs priority prompt_logprobs prompt_mode provider random_seed reasoning reasoning_format reasoning_split
    repetition_penalty request_id response_fields return_tokens safe_prompt safety_settings search_options speed
    stop_regex stop_token_ids stream_interval stream_reasoning thinking top_a top_k top_n_sigma user_security_context
"""
VENDORS = _VENDORS.split()


def check_names(body: dict[str, Any]) -> None:
    check(body, Report(server_at(None)), ())


@pytest.mark.parametrize(("slip", "meant"), SLIPS.items())
def test_a_misspelt_name_is_an_error_that_says_what_was_meant(slip: str, meant: str) -> None:
    with pytest.raises(InvalidRequest, match=f"did you mean '{meant}'\\?") as caught:
        check_names({slip: 1})
    assert caught.value.keyword == "unknown_key"
    assert caught.value.path in {f"$.{slip}", f"$['{slip}']"}


def test_a_misspelt_name_is_a_warning_in_the_open_form_and_nothing_unchecked() -> None:
    for base_url in None, OPENAI, VLLM:
        (warning,) = check_rules(request(tempreture=0.2), base_url=base_url, mode="open")
        assert warning.startswith("$.tempreture is not a parameter of a chat completion (did you mean 'temperature'?)")
        assert check_rules(request(tempreture=0.2), base_url=base_url, mode="unchecked") == []


def test_an_error_of_a_misspelt_name_says_how_to_send_it_all_the_same() -> None:
    remedy = r"^Rename or remove the key: \$\.tempreture is not .*; request_schema='open' sends it as it is\.$"
    with pytest.raises(InvalidRequest, match=remedy):
        check_names({"tempreture": 1})


def test_the_rules_of_a_request_include_its_names() -> None:
    with pytest.raises(InvalidRequest, match="did you mean 'temperature'"):
        check_rules(request(tempreture=0.2))


@pytest.mark.parametrize("name", PLAUSIBLE)
def test_a_name_that_the_api_may_get_one_day_is_no_misspelling(name: str) -> None:
    check_names({name: 1})


@pytest.mark.parametrize("name", VENDORS)
def test_another_servers_parameter_passes_without_a_word(name: str) -> None:
    check_names({name: 1})
    assert check_rules(request(**{name: 1}), base_url=VLLM) == []


def test_the_names_are_those_of_the_schema() -> None:
    assert set(shipped("2026-11")["properties"]) == API_NAMES


def test_a_name_is_no_misspelling_of_one_that_the_request_has() -> None:
    check_names({"model": "m", "mode": "fast"})


def test_values_are_not_looked_at() -> None:
    class Opaque:
        def __getattribute__(self, name: str) -> Any:
            raise AssertionError(name)

    check_names(dict.fromkeys(API_NAMES, Opaque()))
    check_names({"zzz": Opaque()})


@pytest.mark.parametrize("base_url", [None, VLLM, OPENAI])
def test_a_name_of_the_users_own_schema_passes_even_where_it_looks_misspelt(base_url: str | None) -> None:
    assert check_rules(request(tempreture=1, zzz=1), base_url=base_url, known=["tempreture", "zzz"]) == []


def test_an_unknown_name_passes_without_a_word_but_not_at_openai() -> None:
    for base_url in None, VLLM:
        assert check_rules(request(logit_biases={}), base_url=base_url) == []
    with pytest.raises(InvalidRequest, match=r"\$\.logit_biases is not .* \(did you mean 'logit_bias'\?\)") as caught:
        check_rules(request(logit_biases={}), base_url=OPENAI)
    assert (caught.value.keyword, caught.value.path) == ("unknown_key", "$.logit_biases")


def test_azure_has_parameters_of_its_own() -> None:
    assert check_rules(request(data_sources=[]), base_url=AZURE) == []
    with pytest.raises(InvalidRequest, match="data_sources"):
        check_rules(request(data_sources=[]), base_url=OPENAI)


def test_a_wrapper_of_client_libraries_is_answered_with_where_its_content_belongs() -> None:
    with pytest.raises(InvalidRequest, match="top level") as caught:
        check_rules(request(extra_body={}), base_url=OPENAI)
    assert caught.value.path == "$.extra_body"


def test_a_very_long_or_strange_name_is_only_unknown() -> None:
    strange = {"temperature" * 10_000: 1, "a\nb": 1, "": 1, "\ud800": 1, "_": 1}
    (warning,) = check_rules({"model": "m", "messages": [HI], **strange}, base_url=OPENAI, mode="open")
    assert "the first of 5 such places" in warning
    assert len(warning) < 300
