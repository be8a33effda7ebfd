"""Arguments that an operator does not take, with a hint where each belongs.

Airflow's own error names no place for them, and shows their values, among which may be a key.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Any

from airflow.sdk import BaseOperator

from airflow_chat_provider.core.connection.fields import FIELDS
from airflow_chat_provider.core.errors import InvalidRequest
from airflow_chat_provider.core.request.rules.names import API_NAMES
from airflow_chat_provider.core.spelling import close_to, misspelling
from airflow_chat_provider.task.arguments import ARGUMENTS

_SHOWN = 3  # hints in one error
_LONGEST = 64  # characters of a name: in a mapped task it may be data

# What other operators and client libraries call an argument of ours.
_OTHER_NAMES = {
    "chat_conn_id": "conn_id connection_id connection openai_conn_id llm_conn_id http_conn_id azure_conn_id",
    "prompt": "input_text input text question query user_prompt user_message content inputs prompts",
    "system_prompt": "system instructions instruction system_message developer_prompt system_instruction",
    "messages": "message_history history conversation chat_history",
    "model": "model_id model_name llm_model deployment deployment_id deployment_name engine",
    "response_schema": "output_type output_schema response_model result_type schema json_schema pydantic_model",
    "output_retries": "max_output_retries schema_retries validation_retries",
    "result_format": "output_format return_format response_filter",
    "check_status": "response_check raise_for_status raise_on_status",
    "request": "response_kwargs completion_kwargs model_kwargs request_kwargs body data json payload extra_body",
    "max_attempts": "max_retries retry_limit retry_args attempts num_retries",
    "timeout": "request_timeout read_timeout timeout_seconds",
    "branches": "choices options branch_task_ids",
    "do_xcom_push": "xcom_push",
    "output": "output_dir output_folder output_path",
    "max_concurrency": "concurrency parallelism max_workers max_parallel",
    "requests_per_minute": "rpm rate_limit",
    "tokens_per_minute": "tpm",
    "id_key": "id_column id_field",
}
# The batch's `input` would be the first thing that these mean there.
_INPUTS = "input_path input_file input_text inputs rows data file prompts"
_IN_THE_CONNECTION = {
    **dict.fromkeys(("base_url", "api_base", "host", "url", "azure_endpoint", "openai_api_base"), "host"),
    **dict.fromkeys(("api_key", "password", "token", "key", "openai_api_key"), "password"),
    **{name: f"extra {name!r}" for name in FIELDS},
    "auth_type": "extra 'auth'",
    "extra_headers": "extra 'headers'",
    "default_headers": "extra 'headers'",
    "api_version": "extra 'query'",
    "extra_query": "extra 'query'",
    "http_proxy": "extra 'proxy'",
}
# Parameters that OpenAI does not know, but many servers do.
_OF_SERVERS = """
    top_k top_a min_p typical_p repetition_penalty length_penalty min_tokens guided_json guided_choice
    guided_regex chat_template_kwargs ignore_eos best_of thinking reasoning provider transforms
    safe_prompt random_seed num_ctx num_predict keep_alive grammar cache_prompt seed_override safety_settings
"""
_OF_BATCHES = """
    input output shard max_concurrency requests_per_minute tokens_per_minute max_failures response_key id_key
    keep_row on_changed file_mode part_rows part_seconds reuse deduplicate via completion_window cancel_on_kill
"""
# What operators that wait, or speak HTTP, are told: nothing here corresponds to it.
_OF_OTHERS = """
    method log_response extra_options pagination_function tcp_keep_alive wait_for_completion poll_interval
    polling_interval poke_interval mode stop_on_failure require_approval toolsets agent_params
"""
_OF_BRANCHES = frozenset({"branches", "choose_by"})
_ALIKE = 0.75  # of difflib's ratio: enough for a hint


def check_names(operator: type[Any], given: Iterable[str], *, above: type[Any] | None = None) -> None:
    """Raise InvalidRequest if one of these arguments is not the operator's. Their values are not looked at.

    :param above: only what the classes after this one take counts, because those before it have taken theirs
    """
    names = [name for name in given if name not in _base_names()]
    if names:
        known = _names(operator, above)
        unknown = [name for name in names if name not in known]
        if unknown:
            raise _error(operator, unknown, _names(operator))


@lru_cache(maxsize=1)
def _base_names() -> frozenset[str]:
    """The arguments of every operator; the rest is looked at only where there is any."""
    return frozenset(_parameters(BaseOperator))


def _names(operator: type[Any], above: type[Any] | None = None) -> set[str]:
    """The arguments that an operator takes, in whichever of its classes."""
    classes = operator.__mro__
    classes = classes if above is None else classes[classes.index(above) + 1 :]
    return {name for cls in classes for name in _parameters(cls)}


def _parameters(cls: type[Any]) -> Iterator[str]:
    if "__init__" in vars(cls) and cls is not object:
        for name, parameter in inspect.signature(cls.__init__).parameters.items():
            if name != "self" and parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL):
                yield name


def _error(operator: type[Any], unknown: Sequence[str], known: set[str]) -> InvalidRequest:
    who = getattr(operator, "custom_operator_name", operator.__name__)
    of_the_request = [name for name in unknown if name in API_NAMES or name in _OF_SERVERS.split()]
    told = [_of_the_request(of_the_request, who, known)] if of_the_request else []
    told += [_hint(name, who, known) for name in unknown if name not in of_the_request]
    more = f" (and {len(told) - _SHOWN} more)" if len(told) > _SHOWN else ""
    first = (of_the_request or unknown)[0]
    return InvalidRequest("; ".join(told[:_SHOWN]) + more, path=first[:_LONGEST], keyword="argument")


def _of_the_request(names: Sequence[str], who: str, known: set[str]) -> str:
    listed = " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
    content = ", ".join(f'"{name}": ...' for name in names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
    are = "it is a parameter" if len(names) == 1 else "they are parameters"
    schema = ""
    if "response_format" in names and "response_schema" in known:
        schema = "; for an answer that fits a JSON Schema, give the schema as response_schema"
    return f"Put {listed} into request={{{content}}}: {are} of the API, not of {who}{schema}"


def _hint(name: str, who: str, known: set[str]) -> str:
    """What to do about one argument, and why."""
    shown = repr(name[:_LONGEST])
    has_none = f"{who} has no argument {shown}"
    if place := _IN_THE_CONNECTION.get(name):
        return f"Put {name} into the connection, as its {place}: {has_none}"
    if (meant := _own_name(name, known)) is not None:
        return f"Write {meant} instead of {name}: {has_none}"
    if (other := _other_operator(name)) is not None:
        return f"Remove {name}, or use {other}: {has_none}"
    if name in _OF_OTHERS.split():
        return f"Remove {name}: {who} has no such argument, and needs none"
    if (meant := misspelling(name, sorted(known))) is None:
        meant = misspelling(name, sorted(API_NAMES))
        if meant is not None:
            return f'Write request={{"{meant}": ...}} instead of {name}: {has_none}'
        meant = next(iter(close_to(name, sorted(known), _ALIKE)), None)
    if meant is not None:
        return f"Rename or remove {shown}: {who} has no such argument (did you mean {meant!r}?)"
    return f"Remove {shown}, or put it into request={{...}} if the server takes it: {who} has no such argument"


def _own_name(name: str, known: set[str]) -> str | None:
    """The argument that somebody means who calls it by the name that it has elsewhere."""
    if "input" in known and name in _INPUTS.split():
        return "input"
    return next((own for own, others in _OTHER_NAMES.items() if own in known and name in others.split()), None)


def _other_operator(name: str) -> str | None:
    """The operator that takes this argument, if it is one of ours."""
    if name in _OF_BATCHES.split():
        return "ChatCompletionBatchOperator"
    if name in _OF_BRANCHES:
        return "ChatCompletionBranchOperator"
    return "ChatCompletionOperator" if name in ARGUMENTS else None
