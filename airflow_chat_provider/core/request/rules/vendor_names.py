"""Top-level names that servers compatible with the API take besides the API's own."""

from __future__ import annotations

_VLLM = """
    add_generation_prompt add_special_tokens allowed_token_ids bad_words best_of cache_salt chat_template
    chat_template_kwargs continue_final_message documents ec_transfer_params echo guided_choice
    guided_decoding_backend guided_grammar guided_json guided_regex guided_whitespace_pattern ignore_eos
    include_reasoning include_stop_str_in_output kv_transfer_params length_penalty logits_processors
    logprob_token_ids media_io_kwargs min_p min_tokens mm_processor_kwargs priority prompt_logprobs
    repetition_detection repetition_penalty request_id return_prompt_text return_token_ids
    return_tokens_as_token_ids session_id skip_special_tokens spaces_between_special_tokens stop_token_ids
    stream_interval structured_outputs thinking_token_budget top_k truncate_prompt_tokens truncation_side
    use_beam_search vllm_xargs watermarking
"""
_SGLANG = """
    custom_logit_processor custom_params ebnf lora_path no_stop_trim regex return_hidden_states
    separate_reasoning session_params stop_regex stream_reasoning
"""
_LLAMA_CPP = """
    cache_prompt dry_allowed_length dry_base dry_multiplier dry_penalty_last_n dry_sequence_breakers
    dynatemp_exponent dynatemp_range grammar grammar_lazy grammar_triggers id_slot json_schema lora min_keep
    mirostat mirostat_eta mirostat_tau n_cache_reuse n_cmpl n_discard n_indent n_keep n_predict n_probs
    parse_tool_calls post_sampling_probs reasoning_control reasoning_format repeat_last_n
    repeat_penalty response_fields return_progress return_tokens samplers sse_ping_interval t_max_predict_ms
    thinking_forced_open timings_per_token top_n_sigma typical_p xtc_probability xtc_threshold
"""
_LITELLM = """
    allowed_openai_params api_version cache cache_control caching context_window_fallbacks drop_params
    extra_body fallbacks guardrails litellm_metadata litellm_session_id litellm_trace_id mock_response
    mock_tool_calls num_retries prompt_id prompt_variables tags thinking timeout
"""
_MISTRAL = "guardrails prompt_mode random_seed safe_prompt"
_GROQ = """
    citation_options compound_custom disable_tool_validation exclude_domains include_domains reasoning_format
    search_settings
"""
_OPENROUTER = """
    debug image_config include_reasoning models plugins preset provider reasoning route session_id top_a trace
    transforms usage
"""
_ANTHROPIC = "container context_management mcp_servers output_config speed thinking"
_GEMINI = "cached_content extra_body google safety_settings thinking_config"
# DashScope, Perplexity, Together, Fireworks, xAI, MiniMax and text-generation-inference.
_OTHERS = """
    compliance context_length_exceeded_behavior deferred disable_search do_sample enable_code_interpreter
    enable_search enable_thinking incremental_output max_new_tokens perf_metrics_in_response
    prompt_truncate_len raw_output reasoning_split return_images return_related_questions safety_model
    search_after_date_filter search_before_date_filter search_domain_filter search_mode search_options
    search_parameters search_recency_filter thinking_budget translation_options vl_high_resolution_images
"""
_LISTS = (
    _VLLM,
    _SGLANG,
    _LLAMA_CPP,
    _LITELLM,
    _MISTRAL,
    _GROQ,
    _OPENROUTER,
    _ANTHROPIC,
    _GEMINI,
    _OTHERS,
)

AZURE_NAMES = frozenset({"data_sources", "user_security_context"})
VENDOR_NAMES = AZURE_NAMES.union(*(names.split() for names in _LISTS))
