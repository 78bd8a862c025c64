"""What README and docs show works: Python blocks run, commands parse, both on a tiny checkpoint and made-up data."""

from __future__ import annotations

import importlib
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from markdown_it import MarkdownIt

import llmrec
from llmrec.checkpoints import Checkpoint
from llmrec.commands import arguments
from llmrec.commands.main import VERBS

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
IDS = ["2571", "1240", "318", "1", *(str(number) for number in range(100, 116))]


def blocks(language: str) -> Iterator[tuple[str, str]]:
    """Page and text of every fenced block of a language."""
    for page in PAGES:
        for token in MarkdownIt().parse(page.read_text(encoding="utf-8")):
            if token.type == "fence" and token.info.strip() == language:
                yield page.name, token.content


def commands() -> list[tuple[str, str]]:
    """Page and words of every command of ours."""
    found = []
    for page, text in blocks("bash"):
        for line in text.replace("\\\n", " ").splitlines():
            for part in line.split("&&"):
                if part.strip().startswith("llmrec "):
                    found.append((page, part.strip()))
    return found


class Parsed(Exception):
    """The options were understood."""


@pytest.mark.parametrize(("page", "line"), commands())
def test_a_command_has_the_options_that_it_is_shown_with(page, line, monkeypatch, tmp_path):
    _, verb, *words = shlex.split(line, comments=True)
    assert verb in VERBS, f"{page} shows {verb!r}, which there is not"
    module = importlib.import_module(f"llmrec.commands.{verb}")
    real = arguments.parse_options

    def parse(*given: Any) -> None:
        real(*given)
        raise Parsed

    for place in (arguments, module):
        if hasattr(place, "parse_options"):
            monkeypatch.setattr(place, "parse_options", parse)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Parsed):
        module.main([word for word in words if word != "…"])


@pytest.fixture
def world(checkpoints, tmp_path, monkeypatch) -> dict[str, Any]:
    """The names that the pages use: tables, prepared data, an adapter of the quickstart."""
    monkeypatch.chdir(tmp_path)
    tiny = Checkpoint("sentence-transformers/all-MiniLM-L6-v2", checkpoints["bert"], None, "package")
    monkeypatch.setattr("llmrec.hub.assembly.resolve_checkpoint", lambda *given, **named: tiny)
    monkeypatch.setattr("llmrec.hub.loading.resolve_checkpoint", lambda *given, **named: tiny)
    random = np.random.default_rng(0)
    walks = [
        (user, place, step) for user in range(24) for place, step in enumerate(np.cumsum(random.integers(1, 4, 10)))
    ]
    rows = [(f"u{user}", IDS[(user + step) % 20], 1_260_000_000 + 86_400 * place + user) for user, place, step in walks]
    words = ["red", "blue", "green", "large", "small", "wooden", "steel", "hammer", "saw", "drill"]
    items = pl.DataFrame({"item_id": IDS, "title": [f"{words[n % 7]} {words[n % 10]} {n}" for n in range(20)]})
    events = pl.DataFrame(rows, schema=["household", "item_id", "timestamp"], orient="row")
    data = llmrec.Interactions.from_frames(events, items, {"user_id": "household"}).split("leave_one_out")
    model = llmrec.Recommender.from_backbone("sentence-transformers/all-MiniLM-L6-v2", data.items, device="cpu")
    model.save_pretrained("quickstart/adapter")
    return {"events": events.rename({"household": "user_id"}), "items": items, "data": data, "recommender": model}


@pytest.mark.parametrize("page", sorted({page for page, _ in blocks("python")}))
def test_the_python_of_a_page_runs_from_top_to_bottom(page, world, monkeypatch):
    if page in ("data.md",):
        world["events"] = world["events"].rename({"user_id": "household"})
    for name, text in blocks("python"):
        if name == page:
            exec(compile(text, page, "exec"), world)


def test_the_readme_is_short_and_its_two_commands_are_those_that_are_run():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(readme.splitlines()) <= 220
    test = 'pip install torch==2.13.0 -e ".[test]" && pytest'
    assert f"```bash\n{test}\n```" in readme and test in (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert re.search(r'pip install torch==2\.13\.0 -e "\.\[quickstart\]" && llmrec quickstart', readme)


def test_links_between_the_pages_lead_somewhere():
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#:]+?)(?:#[\w-]+)?\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_every_page_stands_in_the_table_of_contents():
    contents = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    assert not [page.name for page in PAGES[1:] if page.name not in contents]
