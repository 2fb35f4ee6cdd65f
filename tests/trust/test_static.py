"""What no line of the framework may do, read off its syntax trees."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = [*sorted((ROOT / "cxr").rglob("*.py")), ROOT / "train.py", ROOT / "ensemble.py"]
UNPICKLERS = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
RUNNERS = {"eval", "exec", "compile", "__import__"}
SHELLS = {"os.system", "os.popen"}
LOADERS = {"pd.read_pickle", "pandas.read_pickle", "torch.hub.load", "yaml.load", "yaml.full_load", "yaml.unsafe_load"}


def dotted(node: ast.expr) -> str:
    """`a.b.c` of an attribute, empty for anything else."""
    if isinstance(node, ast.Name):
        return node.id
    return f"{dotted(node.value)}.{node.attr}" if isinstance(node, ast.Attribute) else ""


def said(call: ast.Call, keyword: str) -> object:
    """The constant that a call gives to a keyword, or none."""
    values = [k.value for k in call.keywords if k.arg == keyword]
    return values[0].value if values and isinstance(values[0], ast.Constant) else None


def offences(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            yield from (f"line {node.lineno}: import {n}" for n in names if n.split(".")[0] in UNPICKLERS)
        if not isinstance(node, ast.Call):
            continue
        name = dotted(node.func)
        if name in RUNNERS | SHELLS | LOADERS:
            yield f"line {node.lineno}: {name}"
        if name in ("torch.load", "load") and said(node, "weights_only") is not True:
            yield f"line {node.lineno}: torch.load without weights_only=True"
        if name in ("np.load", "numpy.load") and said(node, "allow_pickle") is not False:
            yield f"line {node.lineno}: np.load without allow_pickle=False"
        if said(node, "shell") is True:
            yield f"line {node.lineno}: shell=True"
        if name.endswith("load_from_checkpoint") or (name == "trainer.fit" and said(node, "weights_only") is not True):
            yield f"line {node.lineno}: {name} unpickles"
        if name.endswith("instantiate") and "targets" not in getattr(tree, "file", ""):
            yield f"line {node.lineno}: instantiate past cxr.configuration.targets"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_module_unpickles_evaluates_or_instantiates_past_the_gate(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    tree.file = path.name  # type: ignore[attr-defined]
    assert list(offences(tree)) == []


@pytest.mark.parametrize(
    "line",
    [
        "import pickle", "from pickle import loads", "import joblib.numpy_pickle", "eval('1')", "exec(text)",
        "yaml.load(text)", "np.load(path)", "np.load(path, allow_pickle=True)", "torch.load(path)",
        "torch.load(path, weights_only=False)", "torch.load(path, weights_only=flag)", "pd.read_pickle(path)",
        "subprocess.run(text, shell=True)", "os.system(text)", "hydra.utils.instantiate(node)", "trainer.fit(task)",
        "torch.hub.load('a/b', 'c')", "Task.load_from_checkpoint(path)",
    ],
)  # fmt: skip
def test_the_search_finds_what_it_is_for(line: str) -> None:
    assert list(offences(ast.parse(line))) != []


@pytest.mark.parametrize("line", ["np.load(p, allow_pickle=False)", "torch.load(p, weights_only=True)", "json.load(f)"])
def test_the_search_passes_what_is_safe(line: str) -> None:
    assert list(offences(ast.parse(line))) == []
