"""The requirements are stated in pyproject.toml; every other file that names them must agree with it."""

from __future__ import annotations

import ast
import re
import sys
from itertools import chain

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from tests.support import ROOT

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # comes with pytest

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

# import names that are not the package's
MODULES = {
    "dicomweb-client": "dicomweb_client",
    "pytorch-ignite": "ignite",
    "pyyaml": "yaml",
    "simpleitk": "SimpleITK",
    "ruamel-yaml": "ruamel",
}
# folders of scripts that run in an environment which their setup.sh makes
OWN_ENVIRONMENTS = {"monai_label", "monai_deploy"}
# needed at run time without an import of ours
INDIRECT = {
    "pyyaml": "MONAI reads the bundles' YAML configs with it",
    "scikit-image": "MONAI's KeepLargestConnectedComponent, in the bundle's inference",
    "tensorboard": "torch.utils.tensorboard, for MONAI's TensorBoard handlers and ours",
    "tqdm": "Ignite's ProgressBar, which ProgressBarHandler wraps",
}


def by_name(lines: list[str]) -> dict[str, Requirement]:
    requirements: dict[str, Requirement] = {}
    for requirement in map(Requirement, lines):
        name = canonicalize_name(requirement.name)
        known = requirements.setdefault(name, requirement)
        assert known.specifier == requirement.specifier, f"{name} is stated twice, differently"
    return requirements


def constraints(name: str) -> dict[str, Version]:
    lines = [line.split("#")[0].strip() for line in (ROOT / name).read_text().splitlines()]
    pins = by_name([line for line in lines if line])
    assert all(re.fullmatch(r"==[\w.]+", str(pin.specifier)) for pin in pins.values())
    return {name: Version(str(pin.specifier)[2:]) for name, pin in pins.items()}


def imported_modules(folder: str) -> set[str]:
    modules = set()
    for file in (ROOT / folder).rglob("*.py"):
        if file.parent.name in OWN_ENVIRONMENTS:
            continue
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                modules |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                modules.add(str(node.module).split(".")[0])
    return modules


RUNTIME = by_name(PROJECT["dependencies"])
ALL = by_name(PROJECT["dependencies"] + list(chain(*PROJECT["optional-dependencies"].values())))


def test_conda_environment():
    dependencies = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    (pip_lines,) = [item["pip"] for item in dependencies if isinstance(item, dict)]
    conda = by_name([item for item in dependencies if isinstance(item, str)])
    assert str(conda["python"].specifier) == PROJECT["requires-python"]

    stated = by_name([line for line in pip_lines if not line.startswith("-")])
    assert {name: str(item.specifier) for name, item in stated.items()} == {
        name: str(item.specifier) for name, item in ALL.items()
    }


@pytest.mark.parametrize("name", ALL)
def test_pin_satisfies_requirement(name):
    assert constraints("constraints.txt")[name] in ALL[name].specifier


def test_lower_bounds_are_the_tested_ones():
    assert {name: f">={version}" for name, version in constraints("constraints-lower.txt").items()} == {
        name: str(item.specifier) for name, item in ALL.items()
    }


@pytest.mark.parametrize("name", RUNTIME)
def test_runtime_requirement_is_used(name):
    assert MODULES.get(name, name) in imported_modules("sizeloss_monai") or name in INDIRECT


@pytest.mark.parametrize("folder", ["sizeloss_monai", "scripts"])
def test_imports_are_required(folder):
    third_party = imported_modules(folder) - sys.stdlib_module_names - {"sizeloss_monai", "scripts"}
    assert third_party <= {MODULES.get(name, name) for name in ALL}
