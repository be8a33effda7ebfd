"""The provider as a user installs it: what the built wheel holds, and what it tells Airflow.

A mistake in the provider info stops every component of Airflow, so it is held against Airflow's own schemas.
"""

import importlib
import importlib.metadata
import importlib.util
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from packaging.utils import canonicalize_name, parse_wheel_filename

from airflow_chat_provider.core.connection import fields
from airflow_chat_provider.core.connection.settings import Settings

pytestmark = pytest.mark.wheel

LOAD = """
import json
from importlib.metadata import entry_points
ours = "airflow_chat_provider.provider_info"
(entry,) = entry_points(group="apache_airflow_provider", module=ours)
call = entry.load()
print(json.dumps({"info": call(), "file": call.__code__.co_filename, "distribution": entry.dist.name}))
"""


@pytest.fixture(scope="module")
def unpacked(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("unpacked")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


@pytest.fixture(scope="module")
def loaded(unpacked: Path) -> dict[str, Any]:
    """What the wheel's entry point gives, in a process that has the wheel's content first on its path."""
    environment = os.environ | {"PYTHONPATH": str(unpacked)}
    command = [sys.executable, "-c", LOAD]
    printed = subprocess.check_output(command, cwd=unpacked, env=environment, text=True)
    answer: dict[str, Any] = json.loads(printed)
    return answer


@pytest.fixture(scope="module")
def info(loaded: dict[str, Any]) -> dict[str, Any]:
    content: dict[str, Any] = loaded["info"]
    return content


@pytest.fixture(scope="module")
def connection_type(info: dict[str, Any]) -> dict[str, Any]:
    (only,) = info["connection-types"]
    declared: dict[str, Any] = only
    return declared


def airflow_schema(name: str) -> dict[str, Any]:
    # Found, not imported: to import Airflow takes seconds, and the file is all that is wanted.
    spec = importlib.util.find_spec("airflow")
    assert spec is not None
    (place,) = list(spec.submodule_search_locations or [])
    schema: dict[str, Any] = json.loads((Path(place) / name).read_text())
    return schema


def test_the_entry_point_is_the_wheels_own(loaded: dict[str, Any], unpacked: Path) -> None:
    assert Path(loaded["file"]).is_relative_to(unpacked)


def test_the_package_name_is_the_canonical_name_of_the_distribution(loaded: dict[str, Any], wheel: Path) -> None:
    name, *_ = parse_wheel_filename(wheel.name)

    assert loaded["info"]["package-name"] == canonicalize_name(loaded["distribution"]) == name


def test_the_info_passes_the_schema_that_airflow_checks_at_start(info: dict[str, Any]) -> None:
    jsonschema.validate(info, airflow_schema("provider_info.schema.json"))


def test_each_section_passes_the_stricter_schema_for_providers(info: dict[str, Any]) -> None:
    strict = airflow_schema("provider.yaml.schema.json")
    # What the distribution's metadata says is required there; nothing else may be unknown.
    only_ours = {key: value for key, value in strict.items() if key != "required"}

    jsonschema.validate(info, only_ours)


def test_every_module_that_is_named_can_be_imported(info: dict[str, Any]) -> None:
    for section in ("operators", "hooks"):
        for module in info[section][0]["python-modules"]:
            importlib.import_module(module)


def test_the_connection_type_is_that_of_the_hook_class(connection_type: dict[str, Any]) -> None:
    module, _, name = connection_type["hook-class-name"].rpartition(".")
    hook = getattr(importlib.import_module(module), name)

    assert connection_type["connection-type"] == hook.conn_type
    assert connection_type["hook-name"] == hook.hook_name


def test_the_form_has_a_field_for_each_extra_that_a_connection_may_have(
    connection_type: dict[str, Any],
) -> None:
    assert set(connection_type["conn-fields"]) == set(fields.FIELDS)


def test_a_form_that_was_left_empty_sets_nothing(connection_type: dict[str, Any]) -> None:
    # Airflow's form stores the defaults of all fields, or null, as soon as one of them is touched.
    form = connection_type["conn-fields"]
    stored = {name: field["schema"].get("default") for name, field in form.items()}

    assert all("null" in field["schema"]["type"] for field in form.values())  # else Airflow takes it for required
    assert fields.read_extras(json.dumps(stored)) == {}


def test_the_form_begins_with_the_model_and_offers_no_null_as_a_way_to_authenticate(
    connection_type: dict[str, Any],
) -> None:
    form = connection_type["conn-fields"]
    assert list(form)[:2] == ["model", "auth"]
    assert form["auth"]["schema"]["enum"] == ["bearer", "api-key", "none"]


def test_each_section_of_the_form_is_in_one_place_after_the_fields_without_one(
    connection_type: dict[str, Any],
) -> None:
    # Airflow shows no extra at all if each has a section, and the large editors of JSON are not among the first fields.
    schemas = [field["schema"] for field in connection_type["conn-fields"].values()]
    sections = [schema.get("section", "") for schema in schemas]
    assert sections[0] == ""
    assert sections == sorted(sections, key=list(dict.fromkeys(sections)).index)
    assert not [schema for schema in schemas if "object" in schema["type"] and "section" not in schema]


def test_each_field_of_the_form_has_a_label_and_a_description_in_one_line_with_its_default(
    connection_type: dict[str, Any],
) -> None:
    for name, field in connection_type["conn-fields"].items():
        default = fields.FIELDS[name].shown_default
        assert field["label"]
        assert field["description"]
        assert "\n" not in field["description"]
        assert field["description"].endswith(f". Default: {default}") or not default


@pytest.mark.parametrize(("name", "field"), fields.FIELDS.items())
def test_the_page_of_the_connection_describes_each_extra_as_the_form_does(
    name: str, field: fields.Field, project: Path
) -> None:
    default = f"`{field.shown_default}`" if field.kind == "string" and field.shown_default else field.shown_default
    row = f"| `{name}` | {field.help} | {default} |".replace("|  |", "| |")
    assert row in (project / "docs" / "connection.md").read_text("utf-8").splitlines()


def test_the_defaults_of_settings_are_those_that_the_form_names() -> None:
    assert {name: Settings._field_defaults[name] for name in fields.FIELDS} == {
        name: {} if field.kind == "object" else field.default for name, field in fields.FIELDS.items()
    }


def test_the_info_imports_next_to_nothing_because_every_component_of_airflow_reads_it() -> None:
    # What is loaded before counts for nothing: where coverage is measured, coverage itself loads much.
    code = "import sys; had = {*sys.modules}; import airflow_chat_provider.provider_info; print(*{*sys.modules} - had)"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}
    loaded = set(subprocess.check_output([sys.executable, "-c", code], text=True, env=environment).split())
    ours = {name.removeprefix("airflow_chat_provider") for name in loaded if name.startswith("airflow_chat_provider")}
    assert ours == {"", ".provider_info", ".core", ".core.errors", ".core.connection", ".core.connection.fields"}
    assert not loaded & {"airflow", "dataclasses", "httpx", "inspect", "json", "jsonschema", "urllib.parse"}


def test_the_wheel_holds_every_file_of_the_package_and_the_examples(unpacked: Path, project: Path) -> None:
    examples = {Path("example_dags", path) for path in files_of(project / "dags_examples")}
    # What the pages are built from stays behind.
    ours = {path for path in files_of(project / "airflow_chat_provider") if path.parts[:2] != ("plugin", "web")}
    assert files_of(unpacked / "airflow_chat_provider") == ours | examples


def files_of(folder: Path) -> set[Path]:
    found = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return {path for path in found if "__pycache__" not in path.parts}


def test_the_wheel_brings_the_pytest_plugin(unpacked: Path) -> None:
    (metadata,) = unpacked.glob("*.dist-info")
    (entry,) = importlib.metadata.Distribution.at(metadata).entry_points.select(group="pytest11")
    assert entry.load().chat_server


def test_the_wheel_brings_airflows_plugin_by_its_entry_point_alone(unpacked: Path, info: dict[str, Any]) -> None:
    (metadata,) = unpacked.glob("*.dist-info")
    (entry,) = importlib.metadata.Distribution.at(metadata).entry_points.select(group="airflow.plugins")
    assert entry.value == "airflow_chat_provider.plugin:ChatPlugin"
    assert "plugins" not in info


def test_the_wheel_brings_the_license(unpacked: Path) -> None:
    (text,) = unpacked.glob("*.dist-info/licenses/LICENSE")
    assert "Apache License" in text.read_text()


def test_the_wheel_brings_one_package_and_nothing_beside_it(unpacked: Path) -> None:
    top = {path.name for path in unpacked.iterdir() if path.suffix != ".dist-info"}

    assert top == {"airflow_chat_provider"}
