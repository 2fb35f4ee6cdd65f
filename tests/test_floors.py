"""The floors of the house: who may import whom, how long a file may be, and that what is public is explained."""

import ast
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FILES = sorted((ROOT / "cxr").rglob("*.py"))
# A folder, or a module at the top, imports from the floors below it, the ground first.
FLOORS = [
    "errors", "findings", "processes", "files", "configuration", "imaging", "metrics", "use", "phantom", "model",
    "loss", "figures", "data", "run", "evaluation", "task", "training", "ensemble", "export", "cli",
]  # fmt: skip


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): ast.parse(path.read_text(encoding="utf-8")) for path in FILES}


def lies_in(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


def imports(module: str, tree: ast.Module) -> Iterator[str]:
    """Full names of what a module imports, wherever the statement stands; `from cxr import data` is `cxr.data`."""
    package = module if (ROOT / Path(*module.split("."))).is_dir() else module.rpartition(".")[0]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")
            source = ".".join([*above[: len(above) - node.level + 1], *filter(None, [node.module])])
            source = source if node.level else node.module or ""
            for alias in node.names:
                full = f"{source}.{alias.name}"
                yield full if full in MODULES else source
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if called in ("import_module", "__import__"):
                yield str(node.args[0].value)


def edges(package: str) -> list[tuple[str, str]]:
    """Pairs (module of the package, module of the project that it imports)."""
    found = []
    for module, tree in MODULES.items():
        if lies_in(module, package):
            found += [(module, name) for name in imports(module, tree) if lies_in(name, "cxr")]
    return found


def test_the_reader_of_imports_sees_every_form() -> None:
    text = "import cxr.data\nfrom cxr import metrics\nfrom . import auroc\nfrom .curves import roc_curve\n"
    text += "from ..data import cache\ndef f():\n    from cxr.training.run import g\n    import_module('cxr.figures')\n"
    seen = list(imports("cxr.metrics.summary", ast.parse(text)))
    assert sorted(seen) == sorted(
        ["cxr.data", "cxr.metrics", "cxr.metrics.auroc", "cxr.metrics.curves", "cxr.data.cache", "cxr.training.run",
         "cxr.figures"]
    )  # fmt: skip
    assert {"cxr.data.catalog", "cxr.errors"} <= {name for _, name in edges("cxr.data.split")}


def folder(module: str) -> str:
    """The first part of a module's name below `cxr`; empty for the version in `cxr` itself."""
    return module.partition(".")[2].partition(".")[0]


def test_every_folder_has_its_floor_and_no_helper_lies_loose() -> None:
    assert {folder(module) for module in MODULES} - {"", "__main__"} == set(FLOORS)
    loose = {path.stem for path in FILES if path.parent == ROOT / "cxr"}
    assert loose == {"__init__", "__main__", "errors", "findings"}


@pytest.mark.parametrize("floor", FLOORS)
def test_a_folder_imports_from_the_floors_below_alone(floor: str) -> None:
    below = {"", *FLOORS[: FLOORS.index(floor) + 1]}
    assert [edge for edge in edges(f"cxr.{floor}") if folder(edge[1]) not in below] == []


def test_processes_import_errors_alone() -> None:
    assert {folder(name) for _, name in edges("cxr.processes")} <= {"errors", "processes"}


@pytest.mark.parametrize("floor", ["metrics", "phantom", "model", "loss"])
def test_what_computes_knows_no_data_and_no_other_of_its_kind(floor: str) -> None:
    further = {"phantom": ["metrics"], "model": ["imaging", "configuration"], "loss": ["configuration"]}
    known = {"errors", "findings", "files", floor, *further.get(floor, ())}
    assert {folder(name) for _, name in edges(f"cxr.{floor}")} <= known


def test_nothing_but_entries_imports_the_command_line() -> None:
    importers = {edge[0] for edge in edges("cxr") if lies_in(edge[1], "cxr.cli") and not lies_in(edge[0], "cxr.cli")}
    assert importers == {"cxr.__main__"}


def test_one_module_alone_reads_and_changes_the_arguments_of_the_process() -> None:
    users = {module for module, tree in MODULES.items() if any(is_argv(node) for node in ast.walk(tree))}
    assert users == {"cxr.cli.entry", "cxr.training.worker"}  # no user starts the worker


def is_argv(node: ast.AST) -> bool:
    return isinstance(node, ast.Attribute) and node.attr == "argv"


def test_imports_make_no_circle() -> None:
    graph = {module: {name for source, name in edges(module) if source == module} - {module} for module in MODULES}
    while graph:
        free = {module for module, needed in graph.items() if not needed & set(graph)}
        assert free, f"these modules import each other in a circle, or one that does: {sorted(graph)}"
        graph = {module: needed for module, needed in graph.items() if module not in free}


def test_every_folder_is_installed() -> None:
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]["packages"]
    folders = {".".join(path.relative_to(ROOT).parent.parts) for path in FILES}
    assert sorted(listed) == sorted(folders | {"cxr.conf"})


def test_no_module_is_longer_than_300_lines() -> None:
    lengths = {str(path.relative_to(ROOT)): len(path.read_text(encoding="utf-8").splitlines()) for path in FILES}
    assert {name: length for name, length in lengths.items() if length > 300} == {}


def undocumented(module: str, body: list[ast.stmt], prefix: str = "") -> Iterator[str]:
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            if not (ast.get_docstring(node) or "").strip():
                yield f"{module}.{prefix}{node.name}"
            if isinstance(node, ast.ClassDef):
                yield from undocumented(module, node.body, f"{node.name}.")


def test_every_public_function_class_and_method_is_explained() -> None:
    assert [name for module, tree in MODULES.items() for name in undocumented(module, tree.body)] == []


def test_every_module_opens_with_a_docstring() -> None:
    filled = {module: tree for module, tree in MODULES.items() if tree.body}
    assert [module for module, tree in filled.items() if not ast.get_docstring(tree)] == []


def test_every_module_of_training_has_its_test_file() -> None:
    modules = {path.stem for path in (ROOT / "cxr" / "training").rglob("*.py")} - {"__init__"}
    assert len(modules) > 20
    assert (
        modules - {path.stem.removeprefix("test_") for path in (ROOT / "tests" / "training").glob("test_*.py")} == set()
    )
