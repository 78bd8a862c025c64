from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmrec.text.gaps import gap_words

MINUTE, HOUR, DAY = 60, 3_600, 86_400
UNITS = {"day": 1.0, "week": 7.0, "month": 30.44, "year": 365.25}


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, None),
        (30 * MINUTE - 1, None),
        (30 * MINUTE, "hours later"),
        (DAY - 1, "hours later"),
        (DAY, "the next day"),
        (2 * DAY - 1, "the next day"),
        (2 * DAY, "2 days later"),
        (14 * DAY - 1, "13 days later"),
        (14 * DAY, "2 weeks later"),
        (18 * DAY, "3 weeks later"),
        (61 * DAY - 1, "9 weeks later"),
        (61 * DAY, "2 months later"),
        (365 * DAY - 1, "12 months later"),
        (365 * DAY, "1 year later"),
        (548 * DAY, "2 years later"),
        (3_653 * DAY, "10 years later"),
    ],
)
def test_words_by_hand(seconds, words):
    assert gap_words(seconds) == words


@given(st.integers(2 * DAY, 100 * 365 * DAY))
def test_words_are_within_a_third_of_the_truth(seconds):
    count, unit = re.fullmatch(r"(\d+) (\w+?)s? later", gap_words(seconds)).groups()
    assert 2 / 3 <= int(count) * UNITS[unit] * DAY / (seconds // DAY * DAY) <= 3 / 2  # days are counted whole


@given(st.integers(2 * DAY, 100 * 365 * DAY), st.integers(0, 10 * 365 * DAY))
def test_longer_gaps_never_read_shorter(seconds, more):
    def days(gap: int) -> float:
        count, unit = re.fullmatch(r"(\d+) (\w+?)s? later", gap_words(gap)).groups()
        return int(count) * UNITS[unit]

    assert days(seconds) <= days(seconds + more) * 1.05  # "9 weeks" are 63 days, "2 months" 61


def test_plural_only_for_several():
    assert not re.search(r"\b1 \w+s later", " ".join(str(gap_words(days * DAY)) for days in range(2, 4_000)))


def test_a_negative_gap_is_an_error():
    with pytest.raises(ValueError, match=r"gap of -1 seconds is negative: sort"):
        gap_words(-1)
