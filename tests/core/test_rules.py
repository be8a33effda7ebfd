"""Each rule with a request that breaks it and one, as near as can be, that does not."""

from __future__ import annotations

import re
from typing import Any

import pytest

from airflow_chat_provider.core.errors import InvalidRequest
from airflow_chat_provider.core.rules import check_rules
from tests.core import rule_cases_messages, rule_cases_parameters, rule_cases_tools
from tests.core.rule_requests import AZURE, OPENAI, VLLM, Case

CASES = [*rule_cases_messages.CASES, *rule_cases_tools.CASES, *rule_cases_parameters.CASES]


def label(case: Case) -> str:
    return f"{case.rule}-{case.path}-{case.kind}"


def error(body: dict[str, Any], base_url: str | None) -> tuple[str | None, str | None]:
    with pytest.raises(InvalidRequest) as caught:
        check_rules(body, base_url=base_url)
    assert str(caught.value.path) in str(caught.value), "the person who is paged must see where"
    return caught.value.keyword, caught.value.path


@pytest.mark.parametrize("case", [case for case in CASES if case.kind == "error"], ids=label)
def test_a_request_that_breaks_the_rule_is_an_error(case: Case) -> None:
    assert error(case.breaks, case.at) == (case.rule, case.path)


@pytest.mark.parametrize("case", [case for case in CASES if case.kind == "warning"], ids=label)
def test_a_request_that_breaks_the_rule_is_warned_of_once(case: Case) -> None:
    warnings = check_rules(case.breaks, base_url=case.at)
    assert [text for text in warnings if re.match(re.escape(case.path) + r" .*\.$", text)] == warnings
    assert len(warnings) == 1


@pytest.mark.parametrize("base_url", [OPENAI, AZURE, "api.openai.com", "https://eu.api.openai.com:443/v1"])
@pytest.mark.parametrize("case", [case for case in CASES if case.kind == "openai"], ids=label)
def test_what_openai_refuses_is_an_error_there(case: Case, base_url: str) -> None:
    assert error(case.breaks, base_url) == (case.rule, case.path)


@pytest.mark.parametrize("base_url", [None, VLLM, "https://api.openai.com.example.org/v1", "http://[", "?"])
@pytest.mark.parametrize("case", [case for case in CASES if case.kind == "openai"], ids=label)
def test_what_openai_alone_refuses_is_a_warning_elsewhere(case: Case, base_url: str | None) -> None:
    warnings = check_rules(case.breaks, base_url=base_url)
    assert [text.startswith(f"{case.path} ") for text in warnings] == [True]


@pytest.mark.parametrize("case", CASES, ids=label)
def test_a_request_that_keeps_the_rule_passes_without_a_word(case: Case) -> None:
    assert check_rules(case.passes, base_url=case.at) == []


@pytest.mark.parametrize("case", [case for case in CASES if case.kind == "openai"], ids=label)
def test_a_request_that_keeps_openais_rules_passes_there(case: Case) -> None:
    assert check_rules(case.passes, base_url=OPENAI) == []
