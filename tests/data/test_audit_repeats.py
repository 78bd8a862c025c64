"""What stands twice, planted and counted by hand."""

from __future__ import annotations

from small_splits import START, findings_of, tally

from llmrec.data.times import iso


def test_a_test_event_that_training_holds_identically_is_an_error() -> None:
    found = findings_of("ann:a0t ann:b5t ann:b5x ben:b0t ben:a6x")
    leak = found["identical_events_across_splits"]
    assert tally(leak) == (1, 2, "error") and "50%" in leak["effect"]
    assert leak["examples"] == [{"user_id": "ann", "item_id": "b", "time": iso(START + 5), "split": "test"}]
    assert tally(found["exact_duplicates"]) == (1, 5, "warning")
    assert "0% of the test events" in found["exact_duplicates"]["effect"]
    assert "repeated_test_pairs" not in found


def test_validation_events_in_training_and_test_events_in_validation_count_too() -> None:
    found = findings_of("ann:a0t ann:b5t ann:b5v ann:c6v ann:c6x ben:b0t ben:a7x")
    assert tally(found["identical_events_across_splits"]) == (2, 4, "error")
    assert "50% of the test events" in found["identical_events_across_splits"]["effect"]


def test_a_pair_at_another_time_is_a_repeat() -> None:
    found = findings_of("ann:a0t ann:b1t ann:a5x ben:b0t ben:a6x")
    assert tally(found["repeated_test_pairs"]) == (1, 2, "note") and "50%" in found["repeated_test_pairs"]["effect"]
    assert tally(found["seen_targets"]) == (1, 2, "warning")
    assert "cannot exceed 50%" in found["seen_targets"]["effect"]
    assert tally(found["repeat_events"]) == (1, 5, "note")
    assert "identical_events_across_splits" not in found


def test_a_repeat_inside_the_test_is_seen_but_not_in_training() -> None:
    found = findings_of("ann:a0t ann:b5x ann:b6x ben:b0t ben:a6x")
    assert tally(found["seen_targets"]) == (1, 3, "warning")
    assert "repeated_test_pairs" not in found


def test_exact_duplicates_of_test_events_weigh_twice() -> None:
    found = findings_of("ann:a0t ann:a0t ann:b5x ann:b5x ben:b0t ben:a6x")
    assert tally(found["exact_duplicates"]) == (2, 6, "warning")
    assert "33.3% of the test events" in found["exact_duplicates"]["effect"]


def test_ties_make_targets_ambiguous() -> None:
    # ann: three events at 5, two of them targets; ben: none tied; eve: two tied in training
    found = findings_of("ann:a0t ann:b5v ann:c5x ann:d5x ben:b0t ben:a6x eve:c1t eve:d1t eve:a7x")
    assert tally(found["tied_events"]) == (5, 9, "warning")
    ambiguous = found["ambiguous_targets"]
    # two of four targets, each replaced by a random order with chance 2 / 3
    assert tally(ambiguous) == (2, 4, "warning")
    assert "the place of 33.3% of the targets" in ambiguous["effect"] and "at most 50%" in ambiguous["effect"]
    assert {example["num_tied"] for example in ambiguous["examples"]} == {3}


def test_equal_times_of_different_users_are_no_ties() -> None:
    found = findings_of("ann:a0t ann:b5x ben:b0t ben:a5x")
    assert "tied_events" not in found and "ambiguous_targets" not in found


def test_few_ambiguous_targets_are_a_note() -> None:
    many = " ".join(f"u{number}:a0t u{number}:b{number + 1}x" for number in range(150))
    found = findings_of(f"{many} ann:a0t ann:b9x ann:c9x")
    assert tally(found["ambiguous_targets"]) == (2, 152, "warning")
    found = findings_of(f"{many} ann:a0t ann:d0t ann:b9v ann:c9x")
    assert tally(found["ambiguous_targets"]) == (1, 151, "note")
    assert "0.66% of Recall@K" in found["ambiguous_targets"]["effect"]
