"""The request's arguments as one template: what is known of it before a run, in a task, and for a row of a batch."""

import json
from typing import Any

import pytest
from jinja2.sandbox import SandboxedEnvironment

from airflow_chat_provider.core.request.validator import UNKNOWN
from airflow_chat_provider.errors import InvalidRequest
from airflow_chat_provider.schema import load_schema
from airflow_chat_provider.templates.dag_templates import markers
from airflow_chat_provider.templates.renderer import Renderer
from airflow_chat_provider.templates.request_template import RequestTemplate

SCHEMA = load_schema("2026-11")
USER = {"role": "user", "content": "{{ params.text }}"}
PARAMS = {"text": "from a param", "t": 0.5, "nothing": None, "path": "other.json", "row": "{{ row.text }}"}


@pytest.fixture
def environment(tmp_path):
    """Jinja that finds files in the test's folder."""
    from jinja2 import FileSystemLoader

    return SandboxedEnvironment(loader=FileSystemLoader(tmp_path), cache_size=0)


def rendered(environment, *, has_rows=False, **arguments):
    """The template of these arguments, rendered for a run."""
    renderer = Renderer(environment, {"params": PARAMS})
    template = RequestTemplate(arguments, renderer.is_template, lambda: environment)
    for name in arguments:
        template.render(name, renderer, has_rows=has_rows)
    return template


def filled(environment, **arguments):
    request, _ = rendered(environment, **arguments).fill(SCHEMA)
    return request


WRITTEN: dict[str, Any] = {"messages": [USER], "temperature": "{{ params.t }}"}
FORMS = [WRITTEN, json.dumps(WRITTEN), "whole.json", " whole.json\n", "late.json", '{"messages": [], {{ late }}']


class TestTextOfTheRequest:
    """A dict, its JSON text, a file that holds it, and JSON once rendered: they all make the same request."""

    @pytest.fixture(autouse=True)
    def files(self, tmp_path):
        (tmp_path / "whole.json").write_text(json.dumps(WRITTEN), "utf-8")
        (tmp_path / "late.json").write_text(json.dumps(WRITTEN).replace('"{{ params.t }}"', "{{ params.t }}"), "utf-8")

    @pytest.mark.parametrize("form", FORMS[:5])
    def test_every_form_is_rendered_to_the_same_request(self, environment, form):
        request = filled(environment, request=form)
        assert request == {"messages": [{"role": "user", "content": "from a param"}], "temperature": 0.5}

    @pytest.mark.parametrize("form", FORMS[:4])
    def test_what_stands_in_it_is_known_before_a_run(self, environment, form):
        template = RequestTemplate({"request": form}, markers(), lambda: environment)
        assert template.known() == {"messages": [{"role": "user", "content": UNKNOWN}], "temperature": UNKNOWN}

    @pytest.mark.parametrize("form", FORMS[4:])
    def test_nothing_is_known_of_json_that_is_still_to_be_rendered(self, environment, form):
        assert RequestTemplate({"request": form}, markers(), lambda: environment).known() is UNKNOWN

    def test_nothing_is_known_of_a_file_without_a_dag(self):
        assert RequestTemplate({"request": "whole.json"}, markers()).known() is UNKNOWN

    @pytest.mark.parametrize("text", ["{{ params.path }}", "{{ params.name }}.json"])
    def test_a_template_names_no_file(self, environment, text):
        with pytest.raises(InvalidRequest) as caught:
            rendered(environment, request=text)
        assert caught.value.keyword == "file"

    @pytest.mark.parametrize("text", ["{'a': 1}", "no json", ""])
    def test_any_other_text_is_refused_with_its_place(self, environment, text):
        with pytest.raises(InvalidRequest, match=r"it is not JSON \(.* at line 1, column"):
            RequestTemplate({"request": text}, markers(), lambda: environment).known()
        with pytest.raises(InvalidRequest, match=r"it is not JSON \(.* at line 1, column"):
            rendered(environment, request=text)


class TestNulls:
    def test_one_that_the_author_wrote_is_sent_and_one_of_a_template_is_not(self, environment):
        messages = [
            {"role": "user", "content": "x", "name": "{{ params.nothing }}"},
            {"role": "user", "content": "y", "name": None},
        ]
        sent = filled(environment, request={"messages": messages})["messages"]
        assert sent == [{"role": "user", "content": "x"}, {"role": "user", "content": "y", "name": None}]

    @pytest.mark.parametrize("name", ["request", "messages", "prompt"])
    def test_a_template_that_gives_none_for_a_whole_argument_is_an_error(self, environment, name):
        with pytest.raises(InvalidRequest) as caught:
            rendered(environment, **{name: "{{ params.nothing }}"})
        assert (caught.value.path, caught.value.keyword) == (name, "upstream")

    def test_a_model_may_be_none(self, environment):
        assert "model" not in filled(environment, prompt="x", model="{{ params.nothing }}")


class TestRows:
    def test_only_what_looks_at_the_row_is_rendered_for_each(self, environment):
        template = rendered(environment, has_rows=True, prompt="{{ row.text }}", system_prompt="{{ params.text }}")
        assert template.sources == {"prompt": "{{ row.text }}", "system_prompt": "from a param"}
        for text in ("one", "{{ params.t }}"):
            request, _ = template.fill(SCHEMA, {"text": text})
            assert [message["content"] for message in request["messages"]] == ["from a param", text]

    def test_a_value_that_looks_like_a_template_for_the_row_is_data(self, environment):
        template = rendered(environment, has_rows=True, prompt="{{ params.row }}")
        request, _ = template.fill(SCHEMA, {"text": "not this"})
        assert request["messages"][0]["content"] == "{{ row.text }}"

    def test_a_column_wins_over_a_method_of_dict(self, environment):
        template = rendered(environment, has_rows=True, prompt="{{ row.items }} {{ row.keys() | list }}")
        request, _ = template.fill(SCHEMA, {"items": "a column"})
        assert request["messages"][0]["content"] == "a column ['items']"

    def test_json_that_is_rendered_for_the_row(self, environment):
        template = rendered(environment, has_rows=True, request='{"seed": {{ row.n }} }', prompt="x")
        assert template.fill(SCHEMA, {"n": 7})[0]["seed"] == 7

    def test_a_row_that_gives_none_is_refused(self, environment):
        template = rendered(environment, has_rows=True, prompt="{{ row.text }}")
        with pytest.raises(InvalidRequest, match=r"^Fill the columns that prompt reads"):
            template.fill(SCHEMA, {"text": None})

    def test_a_model_alone_makes_no_requests_and_is_for_rows_that_lack_one(self, environment):
        template = rendered(environment, has_rows=True, model="{{ row.model }}")
        assert not template
        assert template.with_model({"messages": []}, {"model": "m"}) == {"messages": [], "model": "m"}
        assert template.with_model({"model": "own"}, {"model": "m"}) == {"model": "own"}


class TestReplacement:
    def test_data_in_the_place_of_an_argument_is_not_rendered(self, environment):
        template = rendered(environment, prompt="{{ params.text }}", model="m")
        request, _ = template.replaced({"prompt": "{{ params.t }}", "model": None}).fill(SCHEMA)
        assert request == {"messages": [{"role": "user", "content": "{{ params.t }}"}]}
        assert template.value("prompt") == "from a param"

    def test_the_author_s_template_for_the_row_stays_one_when_it_is_moved(self, environment):
        template = rendered(environment, has_rows=True, prompt="{{ row.text }}")
        moved = template.replaced({"prompt": None, "messages": [{"role": "user", "content": "{{ row.text }}"}]})
        assert moved.fill(SCHEMA, {"text": "one"})[0]["messages"] == [{"role": "user", "content": "one"}]
