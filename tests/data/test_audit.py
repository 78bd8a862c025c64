"""The audit as a whole: a clean split is clean, every count agrees with a count by hand, order does not matter."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from small_data import data_directory
from small_splits import Row, findings_of, rows_of, split_events

from llmrec.data.audit import ON_CLOCK, ON_ORDER, audit, write_audit
from llmrec.data.audit_page import audit_page, audit_summary
from llmrec.data.cases import Cases
from llmrec.data.catalog import Catalog
from llmrec.data.directory import PreparedData
from llmrec.data.findings import SEVERITIES, TITLES
from llmrec.data.split_events import SplitEvents

CLEAN = "ann:a0t ann:b1t ann:c8v ann:d9x ben:c2t ben:d3t ben:a8v ben:b10x"
ROWS = st.lists(
    st.tuples(st.sampled_from("ABCD"), st.sampled_from("wxyz"), st.integers(0, 9), st.sampled_from(list("ttttvxx"))),
    min_size=4,
    max_size=30,
)
LETTERS = {"t": "train", "v": "validation", "x": "test"}


def test_a_clean_split_has_no_finding() -> None:
    catalog = Catalog(pl.DataFrame({"item_id": list("abcd"), "title": ["Axe", "Bolt", "Clamp", "Drill"]}))
    result = audit(split_events(rows_of(CLEAN)), catalog)
    assert result["findings"] == [] and result["skipped"] == []
    assert [row["name"] for row in result["passed"]] == list(TITLES)
    assert (result["split_kind"], result["clock"]) == ("temporal", "utc")
    assert result["counts"] == {
        "splits": {
            "train": {"events": 4, "users": 2, "items": 4},
            "validation": {"events": 2, "users": 2, "items": 2},
            "test": {"events": 2, "users": 2, "items": 2},
        },
        "targets": 2,
        "catalogue": 4,
    }


def test_what_a_finding_holds() -> None:
    found = audit(split_events(rows_of(CLEAN + " ben:b20t eve:a0x")))["findings"]
    assert [row["severity"] for row in found] == sorted((row["severity"] for row in found), key=SEVERITIES.index)
    for row in found:
        assert set(row) == {"name", "title", "count", "of", "share", "severity", "effect", "examples"}
        assert row["title"] == TITLES[row["name"]] and row["severity"] in SEVERITIES
        assert 0 < row["count"] <= row["of"] and row["share"] == round(row["count"] / row["of"], 6)
        assert 1 <= len(row["examples"]) <= 5
        assert row["effect"].endswith(".") and "%" in row["effect"]
    assert json.loads(json.dumps(found)) == found


def test_the_page_and_the_summary_say_all_of_it() -> None:
    result = audit(split_events(rows_of(CLEAN + " ben:b20t eve:a0x")))
    page, summary = audit_page(result), audit_summary(result)
    for row in result["findings"]:
        assert f"### {row['title']}" in page and row["effect"] in page and row["title"] in summary
        assert all(str(value) in page for example in row["examples"] for value in example.values())
    for row in (*result["passed"], *result["skipped"]):
        assert f"- {row['title']}" in page and row["title"] not in summary
    assert summary.startswith("audit: 1 error, ")
    widths = {line.count("|") for line in page.split("## Findings")[0].splitlines() if line.startswith("|")}
    assert widths == {5}


def test_checks_that_need_a_clock_or_texts_are_named_as_skipped() -> None:
    result = audit(split_events(rows_of(CLEAN), "leave_one_out", start=0))
    assert {row["name"] for row in result["skipped"]} == {
        *(check.__name__ for check in ON_CLOCK),
        "near_duplicate_items",
    }
    assert [(row["name"], row["count"], row["of"]) for row in result["findings"]] == [("no_clock", 8, 8)]


def test_every_check_has_a_title_and_stands_in_one_list() -> None:
    names = [check.__name__ for check in (*ON_ORDER, *ON_CLOCK)]
    assert sorted([*names, "near_duplicate_items"]) == sorted(TITLES)


def counts_by_hand(rows: list[Row]) -> dict[str, tuple[int, int]]:
    """Count everything with loops over pairs of events; k-core and texts apart."""
    train, validation, test = ([row for row in rows if row[3] == name] for name in LETTERS.values())
    kept = sorted(rows, key=lambda row: row[:1] + row[2:3])
    targets = [
        (user, item, time)
        for user, item, time, _ in test
        if any(row[0] == user and row[2] < time for row in rows)
        or any(row[0] == user for row in train)
        or sum(row[0] == user and row[2] == time for row in rows) > 1
    ]
    start = min(row[2] for row in test)
    first = {row[1]: min(other[2] for other in rows if other[1] == row[1]) for row in rows}
    first_train = {row[1]: min(other[2] for other in train if other[1] == row[1]) for row in train}
    trained_pairs = {row[:2] for row in train}
    keys = [row[:3] for row in rows]
    simultaneous = [row for row in train if any(row[0] == other[0] and row[2] == other[2] for other in test)]
    later = [row for row in train if row[2] > min((other[2] for other in test if other[0] == row[0]), default=math.inf)]
    earlier = {row[:3] for row in train + validation}
    identical = [row for row in test if row[:3] in earlier]
    identical += [row for row in validation if row[:3] in {other[:3] for other in train}]
    tied = [row for row in kept if sum(row[0] == other[0] and row[2] == other[2] for other in rows) > 1]
    ambiguous = [key for key in targets if sum(key[0] == row[0] and key[2] == row[2] for row in rows) > 1]
    test_users = {row[0] for row in test}
    return {
        "future_training_events": (len(later), len(train)),
        "simultaneous_training_events": (len(simultaneous), len(train)),
        "identical_events_across_splits": (len(identical), len(test) + len(validation)),
        "training_after_test_starts": (sum(row[2] > start for row in train), len(train)),
        "targets_known_only_later": (sum(first_train.get(key[1], -1) > key[2] for key in targets), len(targets)),
        "future_items": (sum(first[item] > start for item in first_train), len(first_train)),
        "exact_duplicates": (len(keys) - len(set(keys)), len(keys)),
        "tied_events": (len(tied), len(rows)),
        "ambiguous_targets": (len(ambiguous), len(targets)),
        "repeat_events": (len(rows) - len({row[:2] for row in rows}), len(rows)),
        "repeated_test_pairs": (
            sum(key[:2] in trained_pairs and key not in {row[:3] for row in train} for key in targets),
            len(targets),
        ),
        "cold_targets": (sum(key[1] not in first_train for key in targets), len(targets)),
        "cold_users": (len(test_users - {row[0] for row in train}), len(test_users)),
    }


@settings(max_examples=60, deadline=None)
@given(ROWS)
def test_counts_agree_with_loops_over_pairs_of_events(letters: list[Row]) -> None:
    rows = [(user, item, time, LETTERS[letter]) for user, item, time, letter in letters]
    assume({"train", "test"} <= {row[3] for row in rows})
    data = split_events(rows)
    expected = counts_by_hand(rows)
    # a target alone with its equals opens the history or not by the tie rule: leave those few draws out
    openers = [
        user for user in {row[0] for row in rows} if not any(row[0] == user and row[3] == "train" for row in rows)
    ]
    first_times = {user: min(row[2] for row in rows if row[0] == user) for user in openers}
    assume(all(sum(row[0] == user and row[2] == time for row in rows) == 1 for user, time in first_times.items()))
    for check in (*ON_ORDER, *ON_CLOCK):
        if check.__name__ in expected:
            finding = check(data)
            assert (finding.name, finding.count, finding.of) == (check.__name__, *expected[check.__name__])


@settings(max_examples=15, deadline=None)
@given(ROWS, st.randoms(use_true_random=False))
def test_the_order_of_rows_changes_nothing(letters: list[Row], random: Any) -> None:
    rows = [(user, item, time, LETTERS[letter]) for user, item, time, letter in letters]
    assume({"train", "test"} <= {row[3] for row in rows})
    shuffled = random.sample(rows, len(rows))
    assert audit(split_events(rows)) == audit(split_events(shuffled))


@pytest.mark.parametrize("kind", ["temporal", "leave_one_out"])
def test_targets_and_repeats_are_those_of_evaluation(tmp_path: Path, kind: str) -> None:
    data = PreparedData.open(data_directory(tmp_path / "data", num_users=15, num_items=12, length=14, split=kind))
    cases = Cases.from_histories(data.histories(), data.catalog, "test")
    found = {row["name"]: row for row in data.audit["findings"]}
    assert data.audit["counts"]["targets"] == len(cases)
    assert (found["seen_targets"]["count"], found["seen_targets"]["of"]) == (int(cases.repeated.sum()), len(cases))
    assert data.audit["counts"]["catalogue"] == len(data.catalog)
    assert found["near_duplicate_items"]["count"] == 2  # i02 and i03
    assert not [row for row in found.values() if row["severity"] == "error"]


def test_a_prepared_directory_holds_its_audit_and_an_older_one_none(tmp_path: Path) -> None:
    data = PreparedData.open(data_directory(tmp_path / "data"))
    again = audit(SplitEvents(data.splits, "leave_one_out"), data.catalog)
    assert data.audit == again
    before = {path.name: path.read_bytes() for path in data.path.iterdir()}
    write_audit(data.path, again)
    assert {path.name: path.read_bytes() for path in data.path.iterdir()} == before
    (data.path / "audit.json").write_text("{")
    with pytest.raises(ValueError, match=r"audit.json' is no JSON"):
        _ = data.audit
    (data.path / "audit.json").write_text("[]")
    with pytest.raises(ValueError, match=r"audit.json' is no audit"):
        _ = data.audit
    (data.path / "audit.json").unlink()
    assert PreparedData.open(data.path).audit is None


def test_a_split_without_training_or_test_cannot_be_audited() -> None:
    for text, split in (("ann:a0x", "train"), ("ann:a0t", "test")):
        with pytest.raises(ValueError, match=f"no event of 1 is in the {split} split"):
            findings_of(text)
