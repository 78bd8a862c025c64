from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmrec.text.windows import Window, text_windows


@st.composite
def histories(draw: st.DrawFn) -> tuple[list[int], int, float]:
    """Lengths, a budget that holds each of them, and an overlap."""
    budget = draw(st.integers(1, 30))
    lengths = draw(st.lists(st.integers(1, budget), max_size=40))
    overlap = draw(st.one_of(st.sampled_from([0.0, 0.5, 0.99]), st.floats(0, 0.999)))
    return lengths, budget, overlap


def window_of(windows: list[Window], event: int) -> Window:
    """The window in which an event is new."""
    [window] = [window for window in windows if window.first <= event < window.end]
    return window


@settings(max_examples=300)
@given(histories())
def test_every_event_is_new_in_exactly_one_window(history):
    lengths, budget, overlap = history
    new = [event for window in text_windows(lengths, budget, overlap) for event in range(window.first, window.end)]
    assert new == list(range(len(lengths)))


@settings(max_examples=300)
@given(histories())
def test_windows_hold_the_budget_and_keep_no_more_than_their_share(history):
    lengths, budget, overlap = history
    for window in text_windows(lengths, budget, overlap):
        assert 0 <= window.start <= window.first < window.end <= len(lengths)
        assert sum(lengths[window.start : window.end]) <= budget
        assert sum(lengths[window.start : window.first]) <= overlap * budget


@settings(max_examples=300)
@given(histories())
def test_windows_move_only_when_they_must_and_no_further(history):
    lengths, budget, overlap = history
    windows = text_windows(lengths, budget, overlap)
    for window, following in pairwise(windows):
        assert sum(lengths[window.start : window.end + 1]) > budget
        if following.start > window.start:
            kept = sum(lengths[following.start - 1 : following.first])
            assert kept > min(overlap * budget, budget - lengths[following.first])


@settings(max_examples=300)
@given(histories(), st.data())
def test_what_follows_an_event_does_not_move_its_window(history, data):
    lengths, budget, overlap = history
    if not lengths:
        return
    event = data.draw(st.integers(0, len(lengths) - 1))
    other = lengths[: event + 1] + data.draw(st.lists(st.integers(1, budget), max_size=10))
    alone = window_of(text_windows(lengths[: event + 1], budget, overlap), event)
    for longer in (lengths, other):
        window = window_of(text_windows(longer, budget, overlap), event)
        assert (window.start, window.first) == (alone.start, alone.first)


def test_windows_by_hand():
    assert text_windows([], 10, 0.5) == []
    assert text_windows([3, 3, 3], 10, 0.5) == [Window(0, 0, 3)]
    # 3 + 3 + 3 fill 9 of 10; the fourth moves the window on, which keeps one of them (3 <= 5 < 6).
    assert text_windows([3, 3, 3, 3, 3, 3], 10, 0.5) == [Window(0, 0, 3), Window(2, 3, 5), Window(4, 5, 6)]
    # A newcomer of 9 leaves room for one token, whatever the overlap.
    assert text_windows([1, 3, 1, 9], 10, 0.9) == [Window(0, 0, 3), Window(2, 3, 4)]


@pytest.mark.parametrize("overlap", [-0.1, 1.0, float("nan")])
def test_the_overlap_is_a_share(overlap):
    with pytest.raises(ValueError, match="overlap="):
        text_windows([3], 10, overlap)


def test_an_event_longer_than_the_budget_is_an_error():
    with pytest.raises(ValueError, match="event 1 has 11 tokens, the budget is 10"):
        text_windows([3, 11], 10, 0.5)
