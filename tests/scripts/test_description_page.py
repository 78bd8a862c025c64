"""The page of a description: every number is that of describe.json, and the HTML opens offline."""

from __future__ import annotations

import json
import re

import pytest
from description import describe
from description_page import description_html, description_markdown
from run_scripts import run_script
from small_data import data_directory

from llmrec.data.directory import PreparedData


@pytest.fixture(scope="module")
def description(tmp_path_factory) -> dict:
    folder = tmp_path_factory.mktemp("described")
    return describe(PreparedData.open(data_directory(folder / "data", num_users=40, length=14, irregular=True)), "all")


def test_both_pages_have_every_part_and_its_numbers(description: dict) -> None:
    markdown, html = description_markdown(description), description_html(description)
    for title in ("Size", "Gaps", "Sessions", "Rhythm", "Repeats"):
        assert f"## {title}" in markdown and f">{title}</h2>" in html
    assert f"{description['sessions']['count']:,} sessions" in markdown
    assert f"- **Events:** {description['counts']['events']:,}" in markdown
    bar = max(description["gaps"]["histogram"], key=lambda bar: bar["count"])
    assert f"| {bar['label']} | {bar['count']:,} |" in markdown


def test_the_page_opens_offline_and_is_the_same_every_time(description: dict) -> None:
    html = description_html(description)
    assert html == description_html(json.loads(json.dumps(description)))
    assert not re.search(r"https?://|<script|<link|<img|@import", html)
    assert html.count("<svg") >= 3 and "#0000" not in html  # no stand-in colour is left
    assert "prefers-color-scheme: dark" in html


def test_test_events_are_said_to_be_left_out_only_where_they_are(description: dict) -> None:
    left_out = "Test events are left out"
    assert left_out not in description_markdown(description)
    assert left_out in description_markdown({**description, "events_of": ["train"]})


def test_names_of_the_data_are_text(description: dict) -> None:
    html = description_html({**description, "source": "<b>mine</b>", "notes": ["<script>alert(1)</script>"]})
    assert "<script" not in html and "&lt;b&gt;mine&lt;/b&gt;" in html


def test_what_the_data_do_not_tell_stands_there_with_its_reason(description: dict) -> None:
    parts = ("span", "gaps", "sessions", "rhythm", "drift")
    without = {**description, "clock": "ordinal", **dict.fromkeys(parts), "absent": dict.fromkeys(parts, "no clock")}
    markdown, html = description_markdown(without), description_html(without)
    assert "- **Gaps:** no clock" in markdown and "## Sessions" not in markdown
    assert "<svg" not in html and "the data tell no time" in html


def test_the_command_writes_three_files_and_refuses_what_it_cannot_do(tmp_path, capsys) -> None:
    data = data_directory(tmp_path / "data")
    options = ["--data_dir", str(data), "--output_dir", str(tmp_path / "about")]
    assert run_script("describe", options) == 0
    assert sorted(path.name for path in (tmp_path / "about").iterdir()) == [
        "describe.html",
        "describe.json",
        "describe.md",
    ]
    written = json.loads((tmp_path / "about" / "describe.json").read_text())
    assert written == describe(PreparedData.open(data))
    assert "wrote describe.json" in capsys.readouterr().out
    assert run_script("describe", [*options, "--attribute", "colour"]) == 2
    assert "attribute 'colour' is not one of the items' title" in capsys.readouterr().err
