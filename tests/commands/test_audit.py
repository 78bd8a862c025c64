"""`llmrec audit` on prepared data and on split files: each planted leak is found, each mistake of a caller refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from small_data import data_directory

from llmrec.commands.main import run

HEADER = "uid,sku,when"
# Twelve users, six items; each user's training events at 0..4 days, validation at 5, test at 6; no repeats, no ties.
SPLITS = {"train": range(4), "validation": range(4, 5), "test": range(5, 6)}
DAY, START = 86_400, 1_600_000_007


def lines_of(split: str) -> list[str]:
    return [
        f"u{user},i{(user + event) % 6},{START + event * DAY + user}" for user in range(12) for event in SPLITS[split]
    ]


def write(folder: Path, change: Callable[[dict[str, list[str]]], object] = lambda lines: None) -> list[str]:
    """Write the three files, after a change of their lines, and return the options that audit them."""
    lines = {split: lines_of(split) for split in SPLITS}
    change(lines)
    for split, rows in lines.items():
        (folder / f"{split}.csv").write_text("\n".join([HEADER, *rows]) + "\n")
    (folder / "items.csv").write_text("sku,label\n" + "".join(f"i{item},Item {item}\n" for item in range(6)))
    options = [part for name in (*SPLITS, "items") for part in (f"--{name}", str(folder / f"{name}.csv"))]
    return [*options, "--columns", "user_id=uid,item_id=sku,timestamp=when,title=label"]


def audited(folder: Path, options: list[str]) -> dict[str, Any]:
    assert run("audit", [*options, "--output_dir", str(folder / "out")]) == 0
    assert sorted(path.name for path in (folder / "out").iterdir()) == ["audit.json", "audit.md"]
    return json.loads((folder / "out" / "audit.json").read_text())


def errors(result: dict[str, Any]) -> dict[str, int]:
    return {row["name"]: row["count"] for row in result["findings"] if row["severity"] == "error"}


def test_clean_files_have_no_error_and_no_warning(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = audited(tmp_path, write(tmp_path))
    assert result["findings"] == [] and result["skipped"] == []
    assert result["counts"]["splits"]["train"] == {"events": 48, "users": 12, "items": 6}
    assert result["counts"]["rows_left_out"] == {"train": 0, "validation": 0, "test": 0}
    assert set(result["inputs"]) == {*SPLITS, "items"} and result["inputs"]["test"]["file"] == "test.csv"
    assert str(tmp_path) not in (tmp_path / "out" / "audit.json").read_text()
    output = capsys.readouterr().out
    assert "audit: 0 errors, 0 warnings, 0 notes; 19 checks found nothing, 0 need more" in output


def test_the_exit_code_tells_of_grave_findings_where_that_is_asked_for(tmp_path: Path) -> None:
    output = ["--output_dir", str(tmp_path / "out")]
    clean = write(tmp_path)
    assert run("audit", [*clean, *output, "--fail_on", "warning"]) == 0
    leaking = write(tmp_path, lambda lines: lines["train"].append(f"u3,i2,{START + 9 * DAY}"))
    assert run("audit", [*leaking, *output]) == 0
    assert run("audit", [*leaking, *output, "--fail_on", "error"]) == 1
    grave = {row["severity"] for row in json.loads((tmp_path / "out" / "audit.json").read_text())["findings"]}
    assert "error" in grave
    twice = write(tmp_path, lambda lines: lines["train"].append(lines["train"][0]))
    found = audited(tmp_path, twice)["findings"]
    assert {row["severity"] for row in found} == {"warning", "note"}
    assert run("audit", [*twice, *output, "--fail_on", "error"]) == 0
    assert run("audit", [*twice, *output, "--fail_on", "warning"]) == 1


def test_a_future_event_in_training_is_found(tmp_path: Path) -> None:
    result = audited(tmp_path, write(tmp_path, lambda lines: lines["train"].append(f"u3,i2,{START + 9 * DAY}")))
    assert errors(result) == {"future_training_events": 1}


def test_a_test_event_copied_into_training_is_found(tmp_path: Path) -> None:
    result = audited(tmp_path, write(tmp_path, lambda lines: lines["train"].append(lines["test"][7])))
    assert errors(result) == {"identical_events_across_splits": 1}
    # u7's sixth event: item 7 + 5 = 12, a multiple of six
    example = next(row for row in result["findings"] if row["severity"] == "error")["examples"][0]
    assert (example["user_id"], example["item_id"]) == ("u7", "i0")


def test_a_target_in_a_tie_is_found(tmp_path: Path) -> None:
    def tie(lines: dict[str, list[str]]) -> None:
        user, _, when = lines["test"][4].split(",")
        lines["validation"].append(f"{user},i1,{when}")

    found = {row["name"]: row for row in audited(tmp_path, write(tmp_path, tie))["findings"]}
    assert (found["ambiguous_targets"]["count"], found["ambiguous_targets"]["of"]) == (1, 12)
    assert "8.3% of Recall@K" in found["ambiguous_targets"]["effect"]


def test_a_core_fitted_on_the_test_is_found(tmp_path: Path) -> None:
    """Twenty rare items have four training events and one in the test: a 5-core of everything, not of training."""

    def rare(lines: dict[str, list[str]]) -> None:
        for item in range(20):
            for event in range(4):
                lines["train"].append(f"r{item},x{(item + event) % 20},{START + event * DAY}")
            lines["test"].append(f"r{item},x{(item + 4) % 20},{START + 5 * DAY}")

    found = {row["name"]: row for row in audited(tmp_path, write(tmp_path, rare))["findings"]}
    # each of the twenty is an item of 4 + 1 events; the six others have 8 + 2 + 2
    core = found["items_core_fitted_on_test"]
    assert (core["count"], core["of"]) == (20, 26)
    assert core["examples"][0] == {"item_id": "x0", "events": 5, "training_events": 4}
    # 20 of 32 targets, 80 of 128 training events
    assert core["effect"].count("62.5%") == 2


def test_shuffled_rows_give_the_same_bytes_but_for_the_files_hashes(tmp_path: Path) -> None:
    first = audited(tmp_path, write(tmp_path, lambda lines: lines["train"].append(lines["test"][7])))
    (tmp_path / "other").mkdir()

    def shuffle(lines: dict[str, list[str]]) -> None:
        lines["train"].append(lines["test"][7])
        for rows in lines.values():
            rows.reverse()

    second = audited(tmp_path / "other", write(tmp_path / "other", shuffle))
    assert first.pop("inputs") != second.pop("inputs")
    assert first == second


def test_rows_that_cannot_be_used_are_counted_and_no_validation_and_items_are_needed(tmp_path: Path) -> None:
    write(tmp_path, lambda lines: lines["train"].extend(["u1,,1600000001", ",i1,1600000001", "u1,i1,"]))
    options = ["--train", str(tmp_path / "train.csv"), "--test", str(tmp_path / "test.csv")]
    result = audited(tmp_path, [*options, "--columns", "user_id=uid,item_id=sku,timestamp=when"])
    assert result["counts"]["rows_left_out"] == {"train": 3, "test": 0}
    assert [row["name"] for row in result["skipped"]] == ["near_duplicate_items"]
    assert set(result["counts"]["splits"]) == {"train", "test"} and result["counts"]["catalogue"] is None


def test_prepared_data_is_audited_again_with_the_same_bytes(tmp_path: Path) -> None:
    data = data_directory(tmp_path / "data")
    before = {path.name: path.read_bytes() for path in data.iterdir()}
    for name in ("audit.json", "audit.md"):
        (data / name).unlink()
    assert run("audit", ["--data_dir", str(data)]) == 0
    assert {path.name: path.read_bytes() for path in data.iterdir()} == before
    (data / "audit.json").unlink()
    assert run("audit", ["--data_dir", str(data), "--output_dir", str(tmp_path / "deep" / "out")]) == 0
    assert not (data / "audit.json").exists()
    assert (tmp_path / "deep" / "out" / "audit.json").read_bytes() == before["audit.json"]


def test_prepare_prints_the_findings_and_may_replace_audited_data(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = "".join(f"u{user},i{item},{START + 100 * item},Item {item}\n" for user in range(5) for item in range(9))
    (tmp_path / "events.csv").write_text("user,item,time,title\n" + rows)
    options = ["--interactions", str(tmp_path / "events.csv"), "--output_dir", str(tmp_path / "data")]
    assert run("prepare", options) == 0
    output = capsys.readouterr().out
    assert "audit: 0 errors, " in output and "Targets whose item has no training event (5 of 5)" in output
    assert run("prepare", [*options, "--overwrite", "true"]) == 0
    assert {"audit.json", "audit.md"} <= {path.name for path in (tmp_path / "data").iterdir()}


def test_prepare_without_a_test_event_has_no_audit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = "".join(f"u{user},i{item},{START + 100 * item},Item {item}\n" for user in range(5) for item in range(2))
    (tmp_path / "events.csv").write_text("user,item,time,title\n" + rows)
    options = ["--interactions", str(tmp_path / "events.csv"), "--split", "leave_one_out"]
    assert run("prepare", [*options, "--output_dir", str(tmp_path / "data")]) == 0
    assert "audit: left out, for there is no test event" in capsys.readouterr().out
    assert not (tmp_path / "data" / "audit.json").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "no --train: give --data_dir DATA, or --train FILE"),
        (["--train", "train.csv", "--test", "test.csv"], "no --output_dir"),
        (["--train", "train.csv", "--output_dir", "out"], "no --test"),
        (["--data_dir", "data", "--test", "test.csv"], "--test 'test.csv' goes with --train and --test"),
        (["--data_dir", "nowhere"], "data directory 'nowhere' does not exist"),
        (["--data_dir", "nowhere", "--output_dir", "train.csv"], "'train.csv'"),
        (["--train", "gone.csv", "--test", "test.csv", "--output_dir", "out"], "no file at 'gone.csv'"),
        (["--train", "train.csv", "--test", "odd.csv", "--output_dir", "out"], "odd.csv: no column for user_id"),
        (["--train", "train.csv", "--test", "empty.csv", "--output_dir", "out"], "'empty.csv' has a header and no row"),
        (["--train", "train.csv", "--test", "nulls.csv", "--output_dir", "out"], "none of 1 rows has a user, an item"),
        (["--train", "train.csv", "--test", "foreign.csv", "--output_dir", "out"], "share neither a user nor an item"),
        (["--train", "train.csv", "--test", "ms.csv", "--output_dir", "out"], "pass --time_unit ms"),
    ],
)
def test_mistakes_are_errors_and_write_nothing(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, text in {
        "train": "user,item,time\nann,a,1600000000\nann,b,1600000001\n",
        "test": "user,item,time\nann,c,1600000002\n",
        "odd": "x,y,z\n1,2,3\n",
        "empty": "user,item,time\n",
        "nulls": "user,item,time\nann,,1600000002\n",
        "foreign": "user,item,time\n17.0,3.0,1600000002\n",
        "ms": "user,item,time\nann,c,1600000002000\n",
    }.items():
        Path(f"{name}.csv").write_text(text)
    before = sorted(path.name for path in tmp_path.iterdir())
    assert run("audit", options) == 2
    error = capsys.readouterr().err
    assert error.startswith("llmrec audit: error: ") and message in error
    assert len(error.strip().splitlines()) <= 3
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_a_column_that_no_file_has_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = [part.replace("user_id=uid", "user_id=who") for part in write(tmp_path)]
    assert run("audit", [*options, "--output_dir", str(tmp_path / "out")]) == 2
    assert "column 'who', mapped to user_id, is in no table" in capsys.readouterr().err
