"""Each rule with a request that breaks it and one, as near as can be, that does not."""

from __future__ import annotations

import re
from typing import Any

import pytest

from airflow_chat_provider.core.errors import InvalidRequest
from airflow_chat_provider.core.request.rules import check_rules
from tests.support import rule_cases_messages, rule_cases_parameters, rule_cases_tools
from tests.support.rule_requests import AZURE, OPENAI, VLLM, Case

CASES = [*rule_cases_messages.CASES, *rule_cases_tools.CASES, *rule_cases_parameters.CASES]
OPENAIS = [OPENAI, AZURE, "api.openai.com", "https://eu.api.openai.com:443/v1"]
OTHERS = [VLLM, "https://api.openai.com.example.org/v1", "http://[", "?"]
WAY_OUT = "; request_schema='open' sends it as it is"


def label(case: Case) -> str:
    return f"{case.rule}-{case.path}-{case.kind}"


def of(*kinds: str) -> list[Case]:
    return [case for case in CASES if case.kind in kinds]


def told(case: Case, base_url: str | None, mode: Any = "checked") -> list[bool]:
    """For each warning: does it begin with the path? Functions are deprecated besides, which is no part of the case."""
    warnings = [
        text for text in check_rules(case.breaks, base_url=base_url, mode=mode) if "deprecated function" not in text
    ]
    assert WAY_OUT not in "".join(warnings)
    return [text.startswith(f"{case.path} ") for text in warnings]


def error(body: dict[str, Any], base_url: str | None) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        check_rules(body, base_url=base_url)
    assert str(caught.value.path) in str(caught.value), "the person who is paged must see where"
    return caught.value


def found(body: dict[str, Any], base_url: str | None) -> tuple[str | None, str | None]:
    wrong = error(body, base_url)
    return wrong.keyword, wrong.path


@pytest.mark.parametrize("case", of("closed"), ids=label)
def test_a_request_that_breaks_the_rule_is_an_error(case: Case) -> None:
    assert found(case.breaks, case.at) == (case.rule, case.path)


@pytest.mark.parametrize("case", of("warning"), ids=label)
def test_a_request_that_breaks_the_rule_is_warned_of_once(case: Case) -> None:
    warnings = check_rules(case.breaks, base_url=case.at)
    assert [text for text in warnings if re.match(re.escape(case.path) + r" .*\.$", text)] == warnings
    assert len(warnings) == 1


@pytest.mark.parametrize("base_url", OPENAIS)
@pytest.mark.parametrize("case", of("openai", "openai alone"), ids=label)
def test_what_openai_refuses_is_an_error_there(case: Case, base_url: str) -> None:
    assert found(case.breaks, base_url) == (case.rule, case.path)


@pytest.mark.parametrize("base_url", [None, *OTHERS])
@pytest.mark.parametrize("case", of("openai"), ids=label)
def test_what_openai_refuses_is_a_warning_where_others_take_it(case: Case, base_url: str | None) -> None:
    assert told(case, base_url) == [True]


@pytest.mark.parametrize("case", of("openai alone"), ids=label)
def test_what_concerns_openai_alone_is_a_warning_where_no_server_is_known_and_nothing_elsewhere(case: Case) -> None:
    assert told(case, None) == [True]
    assert [check_rules(case.breaks, base_url=base_url) for base_url in OTHERS] == [[]] * len(OTHERS)


@pytest.mark.parametrize("case", of("closed", "openai", "openai alone"), ids=label)
def test_an_error_names_the_way_to_send_it_all_the_same_and_that_way_is_open(case: Case) -> None:
    base_url = case.at if case.kind == "closed" else OPENAI
    assert WAY_OUT in error(case.breaks, base_url).message
    assert told(case, base_url, "open") == [True]


@pytest.mark.parametrize("base_url", [None, OPENAI, VLLM])
@pytest.mark.parametrize("case", CASES, ids=label)
def test_what_is_sent_unchecked_is_not_looked_at(case: Case, base_url: str | None) -> None:
    assert check_rules(case.breaks, base_url=base_url, mode="unchecked") == []


@pytest.mark.parametrize("mode", ["checked", "open"])
@pytest.mark.parametrize("case", CASES, ids=label)
def test_a_request_that_keeps_the_rule_passes_without_a_word(case: Case, mode: Any) -> None:
    assert check_rules(case.passes, base_url=case.at, mode=mode) == []


@pytest.mark.parametrize("case", of("openai", "openai alone"), ids=label)
def test_a_request_that_keeps_openais_rules_passes_there(case: Case) -> None:
    assert check_rules(case.passes, base_url=OPENAI) == []
