from __future__ import annotations

import pytest

from llmrec.text.serializer import UNNAMED, Serializer
from llmrec.text.template import PromptTemplate

DAY = 86_400
TEMPLATE = PromptTemplate(
    header="History:",
    event="{title}[ ({year})][, {gap}]",
    item="{title}[ | {brand}][ | {genres}]",
    max_words={"title": 4, "genres": 2},
)
HEAT = {"title": "Heat", "year": "1995", "genres": "crime, drama, thriller", "brand": "Acme Films"}


def test_golden_texts_of_a_history():
    serializer = Serializer(TEMPLATE)
    saw = {"title": "A very long name of a small saw"}
    history = [(HEAT, None), (saw, 60), (HEAT, 3 * DAY), (saw, 400 * DAY)]
    assert [serializer.header, *(serializer.event(item, gap) for item, gap in history)] == [
        "History:",
        "Heat (1995)",
        "A very long name",
        "Heat (1995), three days later",
        "A very long name, one year later",
    ]


def test_golden_texts_of_items():
    serializer = Serializer(TEMPLATE)
    assert serializer.item(HEAT) == "Heat | Acme Films | crime, drama, thriller"  # uncut: it is read once
    assert serializer.item({"title": "Saw"}) == "Saw"
    assert serializer.item({"title": "Saw", "genres": "crime"}) == "Saw | crime"


@pytest.mark.parametrize("words", range(1, 5))
def test_a_field_is_cut_to_its_words(words):
    template = PromptTemplate(event="{title}[ {brand}]", item="{title}", max_words={"title": words})
    item = {"title": "a b  c\td", "brand": "e f g h i"}
    text = " ".join("abcd"[:words])
    assert Serializer(template).event(item) == f"{text} e f g h i"
    assert Serializer(template).item(item) == "a b c d"


@pytest.mark.parametrize("pattern", ["", "{title}[ | {brand}]"])
def test_where_events_have_no_words_limits_still_cut_candidates(pattern):
    item = {"title": "a b c d", "brand": "e f g"}
    limits = {"title": 2, "brand": 1}
    serializer = Serializer(PromptTemplate(event="", item="{title}[ | {brand}]", candidate=pattern, max_words=limits))
    assert serializer.event(item, gap=3 * DAY) == ""
    assert serializer.candidate(item) == "a b | e"
    assert serializer.item(item) == "a b c d | e f g"


def test_values_are_squeezed_and_blank_ones_are_missing():
    serializer = Serializer(TEMPLATE)
    assert serializer.item({"title": "  Heat \n wave ", "brand": " \t", "genres": ""}) == "Heat wave"


@pytest.mark.parametrize("item", [{}, {"title": ""}, {"title": "  "}, {"colour": "red"}])
@pytest.mark.parametrize("gap", [None, 60, 3 * DAY])
def test_an_item_without_words_has_no_name_whatever_the_pattern_says(item, gap):
    assert Serializer(TEMPLATE).item(item) == UNNAMED
    assert Serializer(TEMPLATE).event(item, gap) == UNNAMED
    wordy = Serializer(PromptTemplate(event="Watched: {title}[, {gap}]", item="Title: {title}"))
    assert wordy.item(item) == UNNAMED
    assert wordy.event(item, gap) == UNNAMED
    assert wordy.candidate(item) == UNNAMED == "unnamed item"
    asked = Serializer(PromptTemplate(event="{title}", item="{title}", candidate="will the user like {title}?"))
    assert asked.candidate(item) == UNNAMED


def test_one_missing_field_of_several_is_left_out():
    serializer = Serializer(PromptTemplate(event="{title} {brand}", item="{title} {brand}"))
    assert serializer.event({"brand": "Acme"}) == "Acme"


def test_a_column_named_gap_cannot_pose_as_time():
    serializer = Serializer(TEMPLATE)
    item = {"title": "Saw", "gap": "2 years later"}
    assert serializer.event(item) == "Saw"
    assert serializer.event(item, 60) == "Saw"
    assert serializer.event(item, 3 * DAY) == "Saw, three days later"
    assert Serializer(TEMPLATE, has_clock=False).event(item, 3 * DAY) == "Saw"


def test_without_a_clock_there_are_no_gaps():
    serializer = Serializer(TEMPLATE, has_clock=False)
    assert not serializer.reads_time
    assert serializer.event(HEAT, 3 * DAY) == "Heat (1995)"


@pytest.mark.parametrize("field", ["gap", "weekday", "daypart"])
def test_any_field_of_time_reads_time(field):
    assert Serializer(PromptTemplate(event="{title}[ {" + field + "}]")).reads_time


def test_without_a_gap_field_time_is_not_read():
    assert not Serializer(PromptTemplate()).reads_time
    assert Serializer(TEMPLATE).reads_time


SUNDAY_NOON = 1_600_000_000 // DAY * DAY + DAY // 2
TIMED = PromptTemplate(event="{title}[, {gap}][, {weekday}][ {daypart}]", query="now[: {gap}][, {weekday} {daypart}]")


def test_golden_texts_of_times():
    serializer = Serializer(TIMED)
    assert serializer.event(HEAT, None, moment=SUNDAY_NOON) == "Heat, sunday afternoon"
    assert (
        serializer.event(HEAT, 3 * DAY, moment=SUNDAY_NOON + 3 * DAY) == "Heat, three days later, wednesday afternoon"
    )
    assert serializer.event(HEAT, 60) == "Heat"
    assert serializer.query(3 * DAY, SUNDAY_NOON) == "now: three days later, sunday afternoon"
    assert serializer.query(60, SUNDAY_NOON) == "now, sunday afternoon"  # the same session
    assert serializer.query(None, None) == "now"


def test_without_a_clock_or_a_pattern_nothing_is_said_of_now():
    for silent in (Serializer(TIMED, has_clock=False), Serializer(TEMPLATE)):
        assert not silent.asks_now and silent.query(3 * DAY, SUNDAY_NOON) == ""
    assert Serializer(TIMED, has_clock=False).event(HEAT, 3 * DAY, moment=SUNDAY_NOON) == "Heat"
    assert Serializer(TIMED).asks_now


def test_columns_of_an_item_cannot_pose_as_its_moment():
    item = {"title": "Saw", "weekday": "friday", "daypart": "night"}
    assert Serializer(TIMED).event(item) == "Saw"
    assert Serializer(TIMED).event(item, moment=SUNDAY_NOON) == "Saw, sunday afternoon"


def test_attributes_are_left_as_they_are():
    item = dict(HEAT)
    Serializer(TEMPLATE).event(item, 3 * DAY)
    assert item == HEAT


def test_an_item_without_its_first_field_begins_with_the_next_and_names_its_events():
    untitled = {"brand": "Acme Films", "genres": "crime"}
    serializer = Serializer(TEMPLATE)
    assert serializer.item(untitled) == "Acme Films | crime"
    assert serializer.event({"genres": "crime, drama, thriller"}, gap=3 * DAY) == "crime, drama,"  # cut as in events
