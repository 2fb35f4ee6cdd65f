"""The floors of the house: who may import whom, how long a file may be, and that what is public is explained."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FILES = sorted((ROOT / "cxr").rglob("*.py"))
GROUND = {"cxr.errors", "cxr.findings", "cxr.files", "cxr.predictions", "cxr.private"}
GROUND |= {"cxr.processes.isolation", "cxr.processes.stopping"}
ROOMS = {"cxr.data", "cxr.model", "cxr.loss", "cxr.metrics"}


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
    text += "from ..data import cache\ndef f():\n    from cxr.training.run import g\n    import_module('cxr.report')\n"
    seen = list(imports("cxr.metrics.summary", ast.parse(text)))
    assert sorted(seen) == sorted(
        ["cxr.data", "cxr.metrics", "cxr.metrics.auroc", "cxr.metrics.curves", "cxr.data.cache", "cxr.training.run",
         "cxr.report"]
    )  # fmt: skip
    assert {"cxr.data.catalog", "cxr.errors"} <= {name for _, name in edges("cxr.data.split")}


@pytest.mark.parametrize("module", ["cxr.errors", "cxr.findings", "cxr.files", "cxr.private"])
def test_the_ground_stands_on_errors_alone(module: str) -> None:
    assert module in MODULES
    assert {name for _, name in edges(module)} <= {"cxr.errors"} - {module}


def test_processes_stand_on_errors_alone() -> None:
    assert [edge for edge in edges("cxr.processes") if edge[1] != "cxr.errors" and "processes" not in edge[1]] == []


def test_predictions_and_runs_stand_on_the_ground() -> None:
    below = {"cxr", "cxr.errors", "cxr.files", "cxr.findings", "cxr.private"}
    assert [edge for part in ("cxr.predictions", "cxr.runs") for edge in edges(part) if edge[1] not in below] == []


@pytest.mark.parametrize("room", sorted(ROOMS))
def test_a_room_knows_the_ground_and_itself_alone(room: str) -> None:
    assert len([module for module in MODULES if lies_in(module, room)]) > 1
    known = [edge for edge in edges(room) if not edge[0].endswith(".__main__")]  # python -m starts the command line
    assert [edge for edge in known if edge[1] not in GROUND and not lies_in(edge[1], room)] == []


def test_a_task_stands_on_the_rooms_and_the_ground() -> None:
    below = [*GROUND, *ROOMS, "cxr.task"]
    assert len(edges("cxr.task")) > 5
    assert [edge for edge in edges("cxr.task") if not any(lies_in(edge[1], room) for room in below)] == []


def test_report_reads_no_images_networks_or_training() -> None:
    assert edges("cxr.report")
    above = [*(ROOMS - {"cxr.metrics"}), "cxr.training", "cxr.ensemble", "cxr.cli"]
    assert [edge for edge in edges("cxr.report") if any(lies_in(edge[1], room) for room in above)] == []


def test_nothing_but_entries_imports_the_command_line() -> None:
    importers = {edge[0] for edge in edges("cxr") if lies_in(edge[1], "cxr.cli") and not lies_in(edge[0], "cxr.cli")}
    assert importers == {"cxr.__main__", "cxr.evaluate", "cxr.compare", "cxr.data.cache.__main__"}


def test_one_module_alone_reads_and_changes_the_arguments_of_the_process() -> None:
    users = {module for module, tree in MODULES.items() if any(is_argv(node) for node in ast.walk(tree))}
    own = {"cxr.data.decoder", "cxr.data.phantom.sheet", "cxr.training.worker"}  # processes that no user starts
    assert users == {"cxr.cli.entry"} | own


def is_argv(node: ast.AST) -> bool:
    return isinstance(node, ast.Attribute) and node.attr == "argv"


def test_imports_make_no_circle() -> None:
    graph = {module: {name for source, name in edges(module) if source == module} - {module} for module in MODULES}
    while graph:
        free = {module for module, needed in graph.items() if not needed & set(graph)}
        assert free, f"these modules import each other in a circle, or one that does: {sorted(graph)}"
        graph = {module: needed for module, needed in graph.items() if module not in free}


def test_no_module_is_longer_than_400_lines() -> None:
    lengths = {str(path.relative_to(ROOT)): len(path.read_text(encoding="utf-8").splitlines()) for path in FILES}
    assert {name: length for name, length in lengths.items() if length > 400} == {}


def undocumented(module: str, body: list[ast.stmt], prefix: str = "") -> Iterator[str]:
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            if not (ast.get_docstring(node) or "").strip():
                yield f"{module}.{prefix}{node.name}"
            if isinstance(node, ast.ClassDef):
                yield from undocumented(module, node.body, f"{node.name}.")


def test_every_public_function_class_and_method_is_explained() -> None:
    assert [name for module, tree in MODULES.items() for name in undocumented(module, tree.body)] == []


def test_every_module_opens_with_what_it_holds() -> None:
    filled = {module: tree for module, tree in MODULES.items() if tree.body}
    assert [module for module, tree in filled.items() if not ast.get_docstring(tree)] == []
