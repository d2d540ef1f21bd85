"""Imports run one way, and every list of packages is that of pyproject.toml.

deploy, model <- data_partition <- federation, reenact <- client, evaluation <- server <- experiments <- cli.
"""

import ast
import functools
import re
import tomllib
from pathlib import Path

from deploy.files import all_packages
from tests.support.paths import ROOT, parsed

OURS = all_packages()

ALLOWED = {
    "deploy": {"deploy", "model"},
    "model": {"model"},
    "data_partition": {"model", "data_partition"},
    "federation": {"model", "data_partition", "federation"},
    "client": {"deploy", "model", "data_partition", "federation", "client"},
    "server": {"deploy", "model", "data_partition", "federation", "evaluation", "server"},
    "evaluation": {"model", "data_partition", "federation", "reenact", "evaluation"},
    "reenact": {"model", "data_partition", "reenact"},
    "experiments": set(OURS) - {"client", "cli"},
    "cli": set(OURS),
}


@functools.cache
def modules() -> list[Path]:
    found: list[Path] = []
    for package in OURS:
        found += sorted((ROOT / package).rglob("*.py"))
    return [path.relative_to(ROOT) for path in found]


@functools.cache
def imported_packages(path: Path) -> frozenset[str]:
    """Top-level names of everything a module imports, also inside functions."""
    names: set[str] = set()
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import hides where a name comes from"
            names.add(str(node.module))
    return frozenset(name.partition(".")[0] for name in names)


def test_imports_run_one_way():
    violations = []
    for path in modules():
        package = path.parts[0].removesuffix(".py")
        forbidden = (imported_packages(path) & set(OURS)) - ALLOWED[package]
        violations += [f"{path} imports {name}" for name in sorted(forbidden)]
    assert not violations


def test_flower_and_ray_stay_in_client_and_server():
    users = {path.parts[0] for path in modules() if imported_packages(path) & {"flwr", "ray"}}
    assert users <= {"client", "server"}


def test_prometheus_client_is_used_in_one_module_of_the_server_at_most():
    users = [path for path in modules() if "prometheus_client" in imported_packages(path)]
    assert len(users) <= 1
    assert all(path.parts[0] == "server" for path in users)


def test_only_the_command_line_prints():
    for path in modules():
        calls = [n for n in ast.walk(parsed(path)) if isinstance(n, ast.Call)]
        prints = [call for call in calls if isinstance(call.func, ast.Name) and call.func.id == "print"]
        assert not prints or path.parts[0] == "cli", f"{path} line {prints[0].lineno} prints"


def test_every_package_is_covered():
    assert ALLOWED.keys() == set(OURS)
    assert {path.parent.name for path in ROOT.glob("*/__init__.py")} == {*OURS, "tests"}


def test_lists_of_packages_are_that_of_the_installed_ones():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert project["tool"]["mypy"]["packages"] == [*OURS, "benchmarks"]
    ignored = (ROOT / ".dockerignore").read_text()
    assert set(re.findall(r"^!(\w+)/", ignored, re.MULTILINE)) == set(OURS)
