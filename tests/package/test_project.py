"""The lock files and pyproject.toml say the same."""

import json
import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

LOCKS = ["dev.lock", "lineage.lock", "next.lock", "oldest.lock"]


def requirements(path: Path) -> list[Requirement]:
    lines = (line.strip() for line in path.read_text().splitlines())
    return [Requirement(line) for line in lines if line and not line.startswith("#")]


def runtime(project: Path) -> list[Requirement]:
    declared = tomllib.loads((project / "pyproject.toml").read_text())
    return [Requirement(line) for line in declared["project"]["dependencies"]]


@pytest.mark.parametrize("lock", [*LOCKS, "servers.lock", "engines.lock", "docs.lock", "twine.lock"])
def test_a_lock_pins_exact_versions_and_no_place_to_get_them_from(project: Path, lock: str) -> None:
    for requirement in requirements(project / "requirements" / lock):
        assert re.fullmatch(r"==[^*]+", str(requirement.specifier)), requirement
        assert requirement.url is None, requirement


def test_the_lock_of_node_packages_names_no_place_to_get_them_from(project: Path) -> None:
    lock = json.loads((project / "tests" / "system" / "servers" / "package-lock.json").read_text())

    assert lock["packages"]
    assert not any("resolved" in package for package in lock["packages"].values())


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_has_every_runtime_dependency_in_a_version_that_is_allowed(project: Path, lock: str) -> None:
    pinned = {
        canonicalize_name(requirement.name): str(requirement.specifier).removeprefix("==")
        for requirement in requirements(project / "requirements" / lock)
    }

    for dependency in runtime(project):
        assert dependency.specifier.contains(pinned[canonicalize_name(dependency.name)], prereleases=True)


def test_the_oldest_environment_has_exactly_the_lower_bounds(project: Path) -> None:
    lower = {dependency.name: Version(str(dependency.specifier).removeprefix(">=")) for dependency in runtime(project)}
    oldest = {
        requirement.name: Version(str(requirement.specifier).removeprefix("=="))
        for requirement in requirements(project / "requirements" / "oldest.in")
    }

    assert oldest == lower


def test_each_script_of_the_house_can_be_run(project: Path) -> None:
    for name in ("run", "venv", "pip-install", "engines", "postgres", "redis", "wheel-test"):
        assert (project / ".ci" / name).stat().st_mode & 0o111, name
