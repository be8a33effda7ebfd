"""The words by which servers say how an answer ended, and where each was seen."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple

LONGEST = 64
"""Characters of a reason that are looked at and shown; the longest known one has 29."""
_HALF = "was cut off by "


class Kind(NamedTuple):
    """What happened to an answer, and what its reader can do."""

    said: str
    todo: tuple[str, ...]


LENGTH = Kind(_HALF + "its length limit", ("raise the token limit", "change the prompt"))
_CONTEXT = Kind(_HALF + "the model's context limit", ("shorten the prompt", "choose a model with a larger context"))
_TIME = Kind(_HALF + "a time limit", ("ask again", "lower what is asked for"))
FILTER = Kind(_HALF + "a content filter", ("change the prompt",))
REFUSAL = Kind("is a refusal", ("change the prompt",))
_FAILED = Kind("was broken off by the server", ("ask again",))
_CALL = Kind("ended in a tool call that the model did not write correctly", ("ask again", "simplify the tools"))
_PAUSED = Kind("is not finished: its server has paused it", ("ask again with the messages that came",))
_LOOP = Kind("was broken off because the model repeats itself", ("change the prompt", "raise a penalty"))

# Where each word was seen. Words are compared as letters and digits alone, in lower case, without the prefixes
# FINISH_REASON_ and REASON_: MAX_TOKENS, max-tokens and maxTokens are one word.
_INCOMPLETE: Mapping[Kind, Mapping[str, tuple[str, ...]]] = {
    LENGTH: {
        "OpenAI": ("length",),
        "Gemini (HKUDS/Vibe-Trading#308), Anthropic, Bedrock, Cohere, watsonx": ("max_tokens",),
        "gateways to OpenAI's Responses API": ("max_output_tokens", "incomplete"),
        "OpenAI's parameter as a reason": ("max_completion_tokens",),
        "watsonx": ("token_limit", "not_finished"),
        "Cohere v1": ("error_limit",),
        "xAI": ("max_len",),
        "llama.cpp": ("limit",),
        "LM Studio": ("max_predicted_tokens_reached",),
        "MiniMax": ("max_output",),
    },
    _CONTEXT: {
        "Mistral": ("model_length",),
        "Anthropic, Bedrock, Zhipu": ("model_context_window_exceeded",),
        "xAI": ("max_context",),
        "LM Studio": ("context_length_reached",),
        "OpenAI's error code as a reason": ("context_length_exceeded",),
    },
    _TIME: {"Cohere v2, TensorRT-LLM": ("timeout",), "watsonx, xAI": ("time_limit",)},
    FILTER: {
        "OpenAI, Azure": ("content_filter",),
        "Gemini (HKUDS/Vibe-Trading#308, bespokelabsai/curator#261)": (
            *("safety", "recitation", "prohibited_content", "blocklist", "spii", "language", "model_armor"),
            *("image_safety", "image_prohibited_content", "image_recitation"),
        ),
        "Bedrock (can1357/oh-my-pi#10503)": ("content_filtered", "guardrail_intervened"),
        "Zhipu (langgenius/dify#7559)": ("sensitive",),
        "Cohere v1": ("error_toxic",),
        "gateways": ("content_blocked", "moderation", "blocked", "filtered"),
    },
    REFUSAL: {"Anthropic": ("refusal",), "gateways": ("refused",)},
    _FAILED: {
        "vLLM (vllm-project/vllm#57082), SGLang": ("abort",),
        "clients of theirs": ("aborted",),
        "watsonx, TensorRT-LLM": ("cancelled",),
        "gateways": ("canceled", "cancel", "failed", "failure", "exception", "interrupted", "disconnect"),
        "Cohere v1": ("user_cancel",),
        "DeepSeek (can1357/oh-my-pi#8563)": ("insufficient_system_resource",),
        "Zhipu (promptfoo/promptfoo#9905)": ("network_error",),
        "Gemini": ("other", "image_other", "no_image", "malformed_response"),
        "Bedrock": ("malformed_model_output",),
        "LM Studio": ("user_stopped", "model_unloaded"),
        "OpenRouter, Mistral, LMDeploy": ("error",),
        "gateways' errors": (
            "error_finish",
            "engine_error",
            "internal_error",
            "server_error",
            "upstream_error",
        ),
        "gateways that hand on an overload": ("overloaded", "rate_limit", "unavailable"),
    },
    _CALL: {
        "Gemini (NousResearch/hermes-agent#83886)": (
            *("malformed_function_call", "malformed_tool_call", "unexpected_tool_call"),
            *("too_many_tool_calls", "missing_thought_signature"),
        ),
        "Bedrock": ("malformed_tool_use",),
    },
    _PAUSED: {"Anthropic": ("pause_turn",)},
    _LOOP: {"vLLM": ("repetition",), "gateways": ("repetition_detected",)},
}
_WHOLE: Mapping[str, tuple[str, ...]] = {
    "OpenAI": ("stop", "tool_calls", "function_call"),
    "Anthropic, Bedrock": ("end_turn", "stop_sequence", "tool_use"),
    "Cohere": ("complete", "tool_call"),
    "Hugging Face, watsonx": ("eos", "eos_token"),
    "xAI": ("eot", "stop_token"),
    "LM Studio": ("eos_found", "stop_string_found"),
    "llama.cpp": ("word", "eog_token", "stop_trigger"),
    "TensorRT-LLM": ("end_id", "stop_words"),
    "AI21": ("endoftext",),
    "Baidu": ("normal",),
    "gateways": ("completed", "finished", "finish", "done", "end", "success", "function_calls", "stop_string"),
    "nothing is said: Gemini's enum, DashScope, one-api": ("unspecified", "null", "none", ""),
}


def squeezed(word: str) -> str:
    """A word as it is compared."""
    return _squeezed(word[: 2 * LONGEST])


@lru_cache(64)
def _squeezed(word: str) -> str:
    letters = "".join(filter(str.isalnum, word)).lower()
    return letters.removeprefix("finishreason").removeprefix("reason")


KINDS = {squeezed(word): kind for kind, seen in _INCOMPLETE.items() for words in seen.values() for word in words}
WHOLE_WORDS = {squeezed(word) for words in _WHOLE.values() for word in words}
SAYS_NOTHING = {"unspecified", "null", "none", ""}
