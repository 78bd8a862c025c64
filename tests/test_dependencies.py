"""What is installed with llmrec: bounded above, and tested together in the versions of `constraints.txt`."""

from __future__ import annotations

import ast
import sys
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
USERS = [Requirement(text) for text in (*PROJECT["dependencies"], *EXTRAS["evaluate"], *EXTRAS["quickstart"])]


def test_every_dependency_of_users_has_an_upper_bound():
    assert [str(one) for one in USERS if not any(part.operator == "<" for part in one.specifier)] == []


def test_the_tested_versions_are_within_the_bounds():
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    tested = dict(line.split("==") for line in lines if not line.startswith("#"))
    for one in USERS:
        assert one.specifier.contains(tested[canonicalize_name(one.name)]), one


def test_every_package_that_is_imported_is_a_dependency():
    """What another dependency brings may go with its next version; these few are part of what transformers is."""
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in (ROOT / "llmrec").rglob("*.py")]
    nodes = [node for tree in trees for node in ast.walk(tree)]
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module for node in nodes if isinstance(node, ast.ImportFrom) and not node.level}
    declared = {canonicalize_name(one.name).replace("-", "_") for one in USERS} | {"yaml", "llmrec"}
    benchmarks = {"sentence_transformers", "rectools"}
    brought = {"tokenizers", "pandas", "packaging"}
    found = {name.partition(".")[0] for name in names} - set(sys.stdlib_module_names)
    assert found - declared - benchmarks - brought == set()


def test_the_page_of_licences_names_every_dependency_of_users():
    text = (ROOT / "docs" / "licences.md").read_text(encoding="utf-8")
    assert [one.name for one in USERS if f"`{one.name}`" not in text] == []
