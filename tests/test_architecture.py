"""The rules of the house: which room may know which, and that each room says what stands in it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
WINGS = ("lsm", "mlff")
ROOMS = (*WINGS, "runners")
NOT_FOR_WINGS = {"runners", "benchmarks", "tests", "conf", "hydra", "omegaconf", "mlflow", "logging"}
FILES = {
    str(path.relative_to(ROOT).with_suffix("")).replace("/", ".").removesuffix(".__init__"): path
    for room in ROOMS
    for path in sorted((ROOT / room).rglob("*.py"))
}
PACKAGES = [path.parent for path in FILES.values() if path.name == "__init__.py"]


@cache
def tree_of(module: str) -> ast.Module:
    return ast.parse(FILES[module].read_text(encoding="utf-8"))


def imports(module: str) -> Iterator[str]:
    """Modules that a file imports, inside functions too; what only type checkers see does not count."""
    open_nodes: list[ast.AST] = [tree_of(module)]
    while open_nodes:
        node = open_nodes.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.module and not node.level, f"{module}: relative import"
            inside = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from [name if name in FILES else node.module for name in inside]
        open_nodes += ast.iter_child_nodes(node)


@pytest.mark.parametrize("wing", WINGS)
def test_a_wing_knows_neither_the_roof_nor_the_other_wing(wing: str) -> None:
    forbidden = NOT_FOR_WINGS | {*WINGS} - {wing}
    found = {
        (module, name)
        for module in FILES
        if module.partition(".")[0] == wing
        for name in imports(module)
        if name.partition(".")[0] in forbidden
    }
    assert not found


def test_the_roof_knows_neither_tests_nor_benchmarks() -> None:
    known = {name.partition(".")[0] for module in FILES for name in imports(module)}
    assert not known & {"tests", "benchmarks"}


def test_no_two_files_import_each_other() -> None:
    graph = {module: {name for name in imports(module) if name in FILES} for module in FILES}
    graph["mlff"] = set()  # `mlff.load` is there for users, and looks its function up when it is called
    TopologicalSorter(graph).prepare()


def test_only_runners_print() -> None:
    calls = {
        module
        for module in FILES
        if module.partition(".")[0] in WINGS
        for node in ast.walk(tree_of(module))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    }
    assert not calls


def test_options_take_no_number_that_is_not_finite() -> None:
    settings = {
        (module, ast.unparse(node))
        for module in FILES
        if module != "runners.check"  # whose numbers are names: tags, seeds, threads
        for node in ast.walk(tree_of(module))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "ConfigDict"
    }
    assert settings and not {(module, text) for module, text in settings if "allow_inf_nan=False" not in text}


@pytest.mark.parametrize("package", PACKAGES, ids=lambda folder: str(folder.relative_to(ROOT)))
def test_a_package_lists_its_files(package: Path) -> None:
    rooms = {f"{p.parent.name}/" for p in package.glob("*/__init__.py")}
    files = {p.name for p in package.glob("*.py")} - {"__init__.py"}
    text = ast.get_docstring(ast.parse((package / "__init__.py").read_text(encoding="utf-8"))) or ""
    cells = [line.split("|")[1] for line in text.splitlines() if line.startswith("| `")]
    listed = [name for cell in cells for name in re.findall("`([^`]+)`", cell)]
    assert sorted(listed) == sorted(files | rooms)
