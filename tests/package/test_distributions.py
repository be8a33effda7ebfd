"""What is uploaded: the files of the wheel and of the sdist, and the metadata that the package's page shows."""

import email
import importlib.util
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from email.message import Message
from pathlib import Path, PurePosixPath

import pytest

pytestmark = pytest.mark.wheel

DOCUMENTATION = "https://airflow-chat-provider.readthedocs.io/"
WEB = "airflow_chat_provider/plugin/web"
"""What the pages of Airflow's UI are built from: what is built is in the wheel, the sources are not."""
RUBBISH = re.compile(
    r"__pycache__|\.py[co]$|_cache/|\.venv|\.egg-info|\.hypothesis|\.git/|\.db$|\.log$|\.whl$|^(dist|build)/"
    r"|plugin/web/(node_modules|build)/"
)


@pytest.fixture(scope="module")
def in_wheel(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return {name for name in archive.namelist() if not name.endswith("/")}


@pytest.fixture(scope="module")
def metadata(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return email.message_from_bytes(archive.read(name))


@pytest.fixture(scope="module")
def in_sdist(project: Path, tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    out = tmp_path_factory.mktemp("sdist")
    command = [sys.executable, "-m", "build", "--sdist", "--no-isolation", "--outdir", str(out), str(project)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = out.glob("*.tar.gz")
    with tarfile.open(built) as archive:
        files = [PurePosixPath(member.name) for member in archive.getmembers() if member.isfile()]
    assert {file.parts[0] for file in files} == {built.name.removesuffix(".tar.gz")}
    return {file.relative_to(file.parts[0]).as_posix() for file in files}


def sources(project: Path, *folders: str) -> set[str]:
    """What lies in these folders and is not left over from a run."""
    found = (path.relative_to(project).as_posix() for one in folders for path in (project / one).rglob("*"))
    return {name for name in found if (project / name).is_file() and not RUBBISH.search(name)}


def test_the_wheel_has_the_package_with_the_examples_and_its_metadata_and_nothing_else(
    in_wheel: set[str], project: Path
) -> None:
    ours = {name for name in in_wheel if ".dist-info/" not in name}
    about = {re.sub(r"^[^/]+\.dist-info/", "", name) for name in in_wheel - ours}
    examples = {
        name.replace("dags_examples/", "airflow_chat_provider/example_dags/", 1)
        for name in sources(project, "dags_examples")
    }
    web = sources(project, WEB)
    assert web
    assert ours == (sources(project, "airflow_chat_provider") - web) | examples
    assert about == {"METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE"}


def test_the_wheel_has_the_schemas_and_says_that_it_is_typed(in_wheel: set[str]) -> None:
    schemas = {name for name in in_wheel if re.fullmatch(r"airflow_chat_provider/core/schemas/.+\.json", name)}
    assert {re.search(r"20\d\d-\d\d", name)[0] for name in schemas} >= {"2023-12", "2026-11"}  # type: ignore[index]
    assert "airflow_chat_provider/py.typed" in in_wheel


def test_the_wheel_has_the_pages_of_airflows_ui_and_the_licences_of_what_is_in_them(in_wheel: set[str]) -> None:
    pages = {name.rpartition("/")[2] for name in in_wheel if "/plugin/static/" in name}
    assert pages >= {f"{page}.{kind}" for page in ("conversation", "usage") for kind in ("html", "js", "css")}
    assert "THIRD_PARTY.txt" in pages


def test_the_sdist_has_all_that_is_needed_to_build_test_and_read_it(in_sdist: set[str], project: Path) -> None:
    folders = [".ci", "airflow_chat_provider", "benchmarks", "dags_examples", "docs", "requirements", "tests"]
    pages = {"ARCHITECTURE.md", "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "Makefile", "README.md", "pyproject.toml"}
    expected = sources(project, *folders) | pages
    assert expected <= in_sdist
    assert in_sdist - expected <= {"PKG-INFO", ".gitignore"}


def test_neither_has_what_a_run_leaves_behind(in_wheel: set[str], in_sdist: set[str]) -> None:
    assert [name for name in in_wheel | in_sdist if RUBBISH.search(name)] == []


def test_the_package_page_names_the_developers_and_no_address(metadata: Message) -> None:
    assert metadata["Author"] == "the airflow-chat-provider developers"
    assert metadata["Author-email"] is None
    assert metadata["Maintainer-email"] is None


def test_the_package_page_links_to_the_documentation_and_its_changes(metadata: Message) -> None:
    urls = dict(line.split(", ") for line in metadata.get_all("Project-URL") or [])
    assert urls == {"Documentation": DOCUMENTATION, "Changelog": f"{DOCUMENTATION}changelog/"}


def test_the_package_page_shows_the_readme_as_markdown_and_the_license_by_its_name(
    metadata: Message, project: Path
) -> None:
    assert metadata["Description-Content-Type"] == "text/markdown"
    page = metadata.get_payload(decode=True)
    assert isinstance(page, bytes)
    assert page.decode() == (project / "README.md").read_text("utf-8")
    assert (metadata["License-Expression"], metadata["License-File"]) == ("Apache-2.0", "LICENSE")


def test_the_documentation_has_one_address_wherever_it_is_named(project: Path) -> None:
    from airflow_chat_provider.provider_info import get_provider_info

    (integration,) = get_provider_info()["integrations"]
    site = re.findall(r"(?m)^site_url: (.+)$", (project / ".ci" / "mkdocs.yml").read_text("utf-8"))
    declared = tomllib.loads((project / "pyproject.toml").read_text("utf-8"))["project"]["urls"]
    readme = re.findall(r"https://[\w.-]*readthedocs[\w.-]*/", (project / "README.md").read_text("utf-8"))
    assert [*site, integration["external-doc-url"], declared["Documentation"]] == [DOCUMENTATION] * 3
    assert set(readme) <= {DOCUMENTATION}


def test_each_classifier_is_one_that_package_indexes_know(metadata: Message) -> None:
    if not importlib.util.find_spec("trove_classifiers"):
        pytest.skip("hatchling did not bring the list")
    from trove_classifiers import classifiers

    assert set(metadata.get_all("Classifier") or []) <= set(classifiers)
