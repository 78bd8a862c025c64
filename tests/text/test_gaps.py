from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmrec.text.gaps import gap_words

MINUTE, HOUR, DAY = 60, 3_600, 86_400
NUMBERS = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen"
TENS = "twenty thirty forty fifty sixty seventy eighty ninety hundred"
COUNTS = dict(zip(f"{NUMBERS} {TENS}".split(), [*range(1, 15), *range(20, 101, 10)], strict=True))
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
        (2 * DAY, "two days later"),
        (14 * DAY - 1, "thirteen days later"),
        (14 * DAY, "two weeks later"),
        (18 * DAY, "three weeks later"),
        (61 * DAY - 1, "nine weeks later"),
        (61 * DAY, "two months later"),
        (365 * DAY - 1, "twelve months later"),
        (365 * DAY, "one year later"),
        (548 * DAY, "two years later"),
        (3_653 * DAY, "ten years later"),
        (5_113 * DAY, "fourteen years later"),
        (5_479 * DAY, "twenty years later"),
        (33 * 366 * DAY, "thirty years later"),
        (400 * 366 * DAY, "hundred years later"),
    ],
)
def test_words_by_hand(seconds, words):
    assert gap_words(seconds) == words


@given(st.integers(2 * DAY, 100 * 365 * DAY))
def test_words_are_within_a_third_of_the_truth(seconds):
    count, unit = re.fullmatch(r"(\w+) (\w+?)s? later", gap_words(seconds)).groups()
    assert 2 / 3 <= COUNTS[count] * UNITS[unit] * DAY / (seconds // DAY * DAY) <= 3 / 2  # days are counted whole


@given(st.integers(2 * DAY, 100 * 365 * DAY), st.integers(0, 10 * 365 * DAY))
def test_longer_gaps_never_read_shorter(seconds, more):
    def days(gap: int) -> float:
        count, unit = re.fullmatch(r"(\w+) (\w+?)s? later", gap_words(gap)).groups()
        return COUNTS[count] * UNITS[unit]

    assert days(seconds) <= days(seconds + more) * 1.05  # "9 weeks" are 63 days, "2 months" 61


def test_plural_only_for_several():
    assert not re.search(r"\bone \w+s later", " ".join(str(gap_words(days * DAY)) for days in range(2, 4_000)))


def test_no_gap_has_more_than_three_words_or_a_digit():
    """Vocabularies that read digits one by one, and a space before them, would take seven tokens."""
    words = {gap_words(hours * HOUR) for hours in range(1, 48)} | {gap_words(days * DAY) for days in range(1, 73_000)}
    assert len(words) > 50
    for text in words:
        assert re.fullmatch(r"[a-z]+( [a-z]+){1,2}", text)


def test_a_negative_gap_is_an_error():
    with pytest.raises(ValueError, match=r"gap of -1 seconds is negative: sort"):
        gap_words(-1)
