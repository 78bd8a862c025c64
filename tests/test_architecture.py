"""The direction of the packages (DESIGN: an import points at its own package or one to the left)."""

from __future__ import annotations

import ast
import itertools
import re
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "llmrec"
ROOT = ""  # llmrec/__init__.py: the version, and the lazy imports of the public names

# What each unit may import besides itself.
LEFT: dict[str, set[str]] = {"formatting": set(), "storage": set(), "untrusted": {"formatting"}}
LEFT["configuration"] = {"formatting", "untrusted"}
LEFT["checkpoints"] = {"configuration", "formatting", "untrusted"}
LEFT["data"] = LEFT["checkpoints"] | {"checkpoints", "storage"}
ORDER = ["data", "text", "losses", "models", "ranking", "baselines", "evaluation"]
ORDER += ["hub", "recommender", "training", "commands"]
for left, unit in itertools.pairwise(ORDER):
    LEFT[unit] = LEFT[left] | {left}
LEFT[ROOT] = LEFT["commands"] | {"commands"}


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def unit_of(path: Path) -> str:
    """The package or top-level module that a file belongs to: llmrec/data/catalog.py -> data."""
    first = path.relative_to(PACKAGE).parts[0]
    return first.removesuffix(".py") if first != "__init__.py" else ROOT


def imported_modules(tree: ast.AST, package: list[str]) -> set[str]:
    """Absolute dotted names of everything imported anywhere in a file, inside functions too."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parts = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*parts, *([node.module] if node.module else [])])
            names.update(f"{module}.{alias.name}" for alias in node.names)
    return names


def units_imported(source: str, package: list[str]) -> set[str]:
    names = imported_modules(ast.parse(source), package)
    return {[*name.split("."), ROOT][1] for name in names if name.split(".")[0] == "llmrec"} - {"__version__"}


def package_parts(path: Path) -> list[str]:
    return ["llmrec", *path.relative_to(PACKAGE).parts[:-1]]


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_at_their_own_package_or_to_the_left(path: Path) -> None:
    unit = unit_of(path)
    assert unit in LEFT, f"{unit!r} has no place in the direction of packages"
    allowed = LEFT[unit] | {unit}
    wrong = units_imported(path.read_text(encoding="utf-8"), package_parts(path)) - allowed
    assert not wrong, f"{path.relative_to(PACKAGE)} imports {sorted(wrong)}, which stand to its right"


@pytest.mark.parametrize(
    ("source", "units"),
    [
        ("import llmrec.training.trainer", {"training"}),
        ("from llmrec.models import heads", {"models"}),
        ("from llmrec import commands", {"commands"}),
        ("from llmrec import __version__", set()),
        ("def f():\n    from llmrec.hub.folder import save", {"hub"}),
        ("from ..training import losses", {"training"}),
        ("from . import schema", {"data"}),
        ("import torch.llmrec", set()),
    ],
)
def test_the_reader_of_imports_sees_every_form(source: str, units: set[str]) -> None:
    assert units_imported(source, ["llmrec", "data"]) == units


def test_the_order_is_the_one_of_the_design() -> None:
    assert "training" not in LEFT["evaluation"] and "commands" not in LEFT["training"]
    assert "models" not in LEFT["losses"] and "baselines" not in LEFT["ranking"]
    assert LEFT["commands"] >= {"training", "evaluation", "recommender", "baselines", "data", "checkpoints"}


def test_the_readme_names_every_package_in_the_order_of_the_imports() -> None:
    readme = (PACKAGE.parent / "README.md").read_text(encoding="utf-8")
    listed = re.findall(r"`llmrec/(\w+)(?:\.py)?`", readme[readme.index("## The packages") :].partition("\n## ")[0])
    assert [name for name in listed if name in ORDER] == ORDER


@pytest.mark.parametrize("path", sorted((PACKAGE / "data").glob("*.py")), ids=lambda path: path.name)
def test_data_names_neither_torch_nor_transformers(path: Path) -> None:
    names = imported_modules(ast.parse(path.read_text(encoding="utf-8")), package_parts(path))
    assert not {name.split(".")[0] for name in names} & {"torch", "transformers", "peft", "accelerate"}


def test_importing_data_loads_neither_torch_nor_transformers() -> None:
    modules = [
        "llmrec",
        "llmrec.commands.main",
        *(f"llmrec.data.{path.stem}" for path in (PACKAGE / "data").glob("[a-z]*.py")),
    ]
    program = (
        f"import sys, {', '.join(modules)}; print(sorted({{'torch', 'transformers', 'datasets'}} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_importing_the_face_loads_no_model_library() -> None:
    """What takes seconds is loaded when a recommender is, not when its class is named."""
    program = "import sys; from llmrec import Recommender; print({'torch', 'transformers', 'peft'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
