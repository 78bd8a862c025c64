"""Leaks in time, planted one at a time and counted by hand."""

from __future__ import annotations

from small_splits import START, findings_of, rows_of, split_events, tally

from llmrec.data.split_events import kind_of
from llmrec.data.times import iso


def test_a_training_event_after_the_users_test_event_is_an_error() -> None:
    found = findings_of("ann:a0t ann:b5x ann:c7t ben:b0t ben:a6x")
    # one of three training events; one of two test events has it in its future
    leak = found["future_training_events"]
    assert tally(leak) == (1, 3, "error")
    assert "future of 1 user crosses" in leak["effect"] and "50%" in leak["effect"]
    assert leak["examples"] == [{"user_id": "ann", "item_id": "c", "time": iso(START + 7), "test_time": iso(START + 5)}]


def test_another_users_training_event_after_the_test_is_none() -> None:
    found = findings_of("ann:a0t ann:b5x ben:b0t ben:c5x eve:a9t eve:b10t", "temporal")
    assert "future_training_events" not in found
    # eve's two are later than all test events
    assert tally(found["training_after_test_starts"]) == (2, 4, "warning")
    assert "50%" in found["training_after_test_starts"]["effect"]


def test_a_training_event_in_the_moment_of_the_target_is_no_future_but_a_warning() -> None:
    found = findings_of("ann:a0t ann:c5t ann:b5x ben:b0t ben:a6x")
    assert "future_training_events" not in found
    assert tally(found["simultaneous_training_events"]) == (1, 3, "warning")
    assert "50%" in found["simultaneous_training_events"]["effect"]


def test_leave_one_out_has_the_leak_between_users_by_construction() -> None:
    found = findings_of("ann:a0t ann:b1v ann:c2x ben:b5t ben:a6v ben:c9x eve:a7t eve:b8v eve:b9x")
    # test events at 2, 9 and 9: training at 5 and 7 is later than the first and not than the median, 9
    assert tally(found["training_after_test_starts"]) == (2, 3, "note")
    assert found["training_after_test_starts"]["effect"].startswith("0% of the training events")
    assert "by construction" in found["training_after_test_starts"]["effect"]


def test_targets_that_training_knows_from_the_future() -> None:
    # c is first trained on at 9, after ann's target c at 5; ben's target a is trained on before
    text = "ann:a0t ann:c5x ben:b0t ben:a6x eve:c9t"
    found = findings_of(text, "temporal")
    assert tally(found["targets_known_only_later"]) == (1, 2, "warning")
    example = found["targets_known_only_later"]["examples"][0]
    assert example == {
        "user_id": "ann",
        "item_id": "c",
        "time": iso(START + 5),
        "first_train_time": iso(START + 9),
    }
    assert "targets_known_only_later" not in findings_of(text + " ben:c1t", "temporal")


def test_items_that_did_not_exist_when_the_test_began() -> None:
    # a and b are used before 5; c and d at 8 and 9. For ann's target at 5 two of four are unborn, for ben's at 8 one
    found = findings_of("ann:a0t ann:b5x ben:b0t ben:a8x eve:c8t eve:d9t", "temporal")
    assert tally(found["future_items"]) == (2, 4, "warning")
    assert "37.5%" in found["future_items"]["effect"]
    assert found["future_items"]["examples"][0] == {"item_id": "c", "first_time": iso(START + 8)}


def test_ordinals_keep_the_checks_inside_users() -> None:
    found = findings_of("ann:a0t ann:b1x ann:c2t ben:b0t ben:a1x", start=0)
    assert set(found) == {"no_clock", "future_training_events"}
    assert found["future_training_events"]["examples"] == [
        {"user_id": "ann", "item_id": "c", "time": 2, "test_time": 1}
    ]


def test_a_clock_that_tells_the_day_alone() -> None:
    days = "ann:a0t ann:b86400t ann:c172800x ann:d172800x ben:d0t ben:b259200x"
    midnight = 18_518 * 86_400
    found = findings_of(days, start=midnight)
    # two of the three targets share their day with another event
    assert tally(found["coarse_clock"]) == (6, 6, "note")
    assert "66.7%" in found["coarse_clock"]["effect"]
    assert "coarse_clock" not in findings_of(days, start=midnight + 7)


def test_a_clock_that_stands_still() -> None:
    assert tally(findings_of("ann:a0t ann:b0x ben:b0t ben:a0x")["coarse_clock"]) == (4, 4, "note")


def test_the_kind_of_split_is_inferred() -> None:
    kinds = {
        "ann:a0t ann:b1v ann:c2x": "temporal",
        "ann:a0t ann:b1v ann:c2x ben:a5t ben:b6x": "leave_one_out",
        "ann:a0t ann:b1x ann:c2x ben:a5t": "other",
        "ann:a0t ann:b1x ben:a5t eve:a5t": "other",
    }
    for text, kind in kinds.items():
        data = split_events(rows_of(text))
        assert data.kind == kind_of(data.kept) == kind
    assert split_events(rows_of(text), "temporal").kind == "temporal"
