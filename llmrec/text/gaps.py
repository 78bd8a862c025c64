"""Times to words: how long after the event before it something happened, at human grain."""

from __future__ import annotations

SECONDS_PER_MINUTE = 60
SECONDS_PER_HOUR = 3_600
SECONDS_PER_DAY = 86_400

SAME_SESSION = 30 * SECONDS_PER_MINUTE
"""Events closer than this belong to one session and get no words: most pairs of events are, and words cost tokens."""


NUMBERS = "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen"
TENS = "ten twenty thirty forty fifty sixty seventy eighty ninety hundred"
"""Counts are said in words, one token each in the vocabularies of BERT and of Llama, which reads digits one by one."""


def gap_words(seconds: int) -> str | None:
    """Say a gap in three words at most, or None within a session.

    Args:
        seconds: time since the event before; not negative.

    Raises:
        ValueError: if the gap is negative: events must be in the order of time.

    >>> [gap_words(seconds) for seconds in (5, 3_600, 100_000, 30 * 86_400)]
    [None, 'hours later', 'the next day', 'four weeks later']
    """
    if seconds < 0:
        raise ValueError(f"a gap of {seconds!r} seconds is negative: sort the events by time first.")
    if seconds < SAME_SESSION:
        return None
    days = seconds // SECONDS_PER_DAY
    if days < 1:
        return "hours later"
    if days < 2:
        return "the next day"
    for length, unit in ((365, "year"), (61, "month"), (14, "week")):
        if days >= length:
            count = round(days / {"year": 365.25, "month": 30.44, "week": 7}[unit])
            return f"{_number(count)} {unit}{'s' if count > 1 else ''} later"
    return f"{_number(days)} days later"


def _number(count: int) -> str:
    """Write a count out, rounded to tens where it is more than fourteen, and no more than a hundred.

    >>> [_number(count) for count in (1, 14, 15, 24, 25, 300)]
    ['one', 'fourteen', 'twenty', 'twenty', 'thirty', 'hundred']
    """
    numbers, tens = NUMBERS.split(), TENS.split()
    return numbers[count] if count < len(numbers) else tens[min(count + 5, 100) // 10 - 1]
