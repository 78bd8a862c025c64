"""Broken tables and requests end in a sentence, never in a traceback. FUZZED=750,920 draws more of them."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path

import pytest
from fuzzed_input import fuzzed_request, fuzzed_table
from run_scripts import run_script
from small_data import items_frame
from tiny_recommenders import randomise, tiny_recommender

from llmrec.commands.main import run
from llmrec.data.catalog import Catalog
from llmrec.recommender import Recommender

NUM_TABLES, NUM_REQUESTS = map(int, os.environ.get("FUZZED", "60,80").split(","))
REFUSED = {
    r'{"history": [{"title": "\ud800 x"}]}': r"event 0: title is '\\ud800 x': half of a pair of surrogates",
    '{"history": [{"title": {"a": 1}}]}': r"event 0: title is \{'a': 1\}: a field is a text",
    '{"user_id": NaN, "history": [{"item_id": "i01"}]}': "line 1 is not JSON: NaN is no number",
    '{"now": 1e999, "history": [{"item_id": "i01"}]}': "line 1 is not JSON: 1e999 is no number",
    '{"history": [], "history": [{"item_id": "i01"}]}': "line 1 is not JSON: 'history' stands twice",
    '{"history": ' + "[" * 100_000: "line 1 is nested too deep",
    '{"history": [{"item_id": "i01", "timestamp": ' + "9" * 5_000 + "}]}": "line 1 is not JSON",
}
CATALOG = Catalog(items_frame())


def ended(verb: str, argv: list[str], capsys: pytest.CaptureFixture) -> int:
    """Run a verb in this process, where whatever it does not catch fails the test; a refusal is a sentence."""
    code = (run_script if verb == "describe" else run)(verb, argv)
    error = capsys.readouterr().err
    assert code == 0 or (code == 2 and f"llmrec {verb}: error: " in error and error.strip()[-1] != ":")
    return code


def test_broken_tables_are_read_or_refused(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    codes = []
    for seed in range(NUM_TABLES):
        path, out = fuzzed_table(seed, tmp_path), tmp_path / "out"
        argv = ["--interactions", str(path), "--output_dir", str(out), "--split", "leave_one_out"]
        codes.append(ended("prepare", argv + ["--items", str(path)] * (seed % 3 == 0), capsys))
        if seed % 3 == 1:
            ended("audit", ["--train", str(path), "--test", str(path), "--output_dir", str(tmp_path / "audit")], capsys)
        if seed % 10 == 0 and out.is_dir():
            ended("describe", ["--data_dir", str(out), "--output_dir", str(tmp_path / "described")], capsys)
        shutil.rmtree(out, ignore_errors=True)
        path.unlink()
    assert {0, 2} == set(codes)


def test_broken_requests_are_answered_in_strict_json_or_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture, checkpoints: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    recommender = randomise(tiny_recommender(checkpoints["bert"], CATALOG, template="time", time_embedding=["all"]))
    monkeypatch.setattr(Recommender, "from_pretrained", lambda *args, **kwargs: recommender)
    source, output = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    argv = ["--model", "any", "--input", str(source), "--output", str(output)]
    for line, message in REFUSED.items():
        source.write_text(line)
        assert run("recommend", argv) == 2 and re.search(message, capsys.readouterr().err), line
    source.write_text(r'{"user_id": "\ud800", "history": [{"item_id": "i01"}]}')
    assert run("recommend", argv) == 0 and json.loads(output.read_bytes())["user_id"] == "\ud800"
    codes = []
    for seed in range(NUM_REQUESTS):
        source.write_bytes(fuzzed_request(seed, CATALOG.ids) + b"\n")
        output.unlink(missing_ok=True)
        codes.append(ended("recommend", argv, capsys))
        assert output.is_file() == (codes[-1] == 0)
        if output.is_file():
            for line in output.read_bytes().decode("utf-8").splitlines():
                json.loads(line, parse_constant=pytest.fail)
    assert {0, 2} == set(codes)
