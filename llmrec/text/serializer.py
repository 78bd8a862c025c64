"""The one serializer: training, evaluation and recommendation all read what this object writes."""

from __future__ import annotations

from collections.abc import Mapping

from llmrec.text.gaps import gap_words
from llmrec.text.moments import daypart_word, weekday_word
from llmrec.text.template import EVENT_FIELDS, TIME_FIELDS, PromptTemplate, field_names, render

UNNAMED = "unnamed item"


class Serializer:
    """Writes items and events as text.

    Args:
        template: the patterns to fill.
        has_clock: whether timestamps are times; without a clock (ordinals) nothing is said of time.
    """

    def __init__(self, template: PromptTemplate, has_clock: bool = True) -> None:
        self.template = template
        self.has_clock = has_clock
        self.reads_time = has_clock and bool(field_names(template.event) & TIME_FIELDS)
        self.asks_now = has_clock and bool(template.query)

    @property
    def header(self) -> str:
        """The text before the history."""
        return self.template.header

    def item(self, attributes: Mapping[str, str]) -> str:
        """Return an item's own text.

        >>> Serializer(PromptTemplate(item="{title}[ | {brand}]")).item({"title": "Hex key"})
        'Hex key'
        """
        return _fill(self.template.item, _values(attributes, {})) or UNNAMED

    def event(
        self,
        attributes: Mapping[str, str],
        gap: int | None = None,
        liked: bool | None = None,
        moment: int | None = None,
    ) -> str:
        """Return the text of one event, empty if the template gives events no words.

        Args:
            attributes: the item's text attributes.
            gap: seconds since the event before; None for the first event.
            liked: whether the user liked it; None where nobody said.
            moment: its time, in seconds since the epoch; None where it has none.

        >>> Serializer(PromptTemplate(event="{title}[, {gap}]")).event({"title": "Hex key"}, gap=90_000)
        'Hex key, the next day'
        """
        if not self.template.event:
            return ""
        values = _values(attributes, self.template.max_words)
        timed = {**values, **_time_words(gap, moment)} if self.reads_time else values
        told = timed if liked is None else {**timed, "verdict": "liked" if liked else "disliked"}
        # An item without the event's fields is named by those of its own text.
        return _fill(self.template.event, told) or _fill(self.template.item, values) or UNNAMED

    def query(self, gap: int | None = None, moment: int | None = None) -> str:
        """Return the text that stands behind a history: when it is asked, and nothing else; empty if that is unsaid.

        Args:
            gap: seconds since the last event; None where it has no time.
            moment: now, in seconds since the epoch; None where it is not known.

        >>> Serializer(PromptTemplate(query="now[: {gap}][, {weekday} {daypart}]")).query(90_000, 1_600_000_000)
        'now: the next day, sunday afternoon'
        """
        return render(self.template.query, _time_words(gap, moment)) if self.asks_now else ""

    def candidate(self, attributes: Mapping[str, str]) -> str:
        """Return the text of a candidate.

        >>> Serializer(PromptTemplate(event="{title}[, {gap}]")).candidate({"title": "Hex key"})
        'Hex key'
        """
        values = _values(attributes, self.template.max_words)
        pattern = self.template.candidate or self.template.event
        return (pattern and _fill(pattern, values)) or _fill(self.template.item, values) or UNNAMED

    def all_of(self, attributes: Mapping[str, str]) -> str:
        """Return all that the template reads of an item: items for which this is equal are one to a model of texts.

        >>> serializer = Serializer(PromptTemplate(event="{title}", item="{title}[ | {brand}]"))
        >>> serializer.all_of({"title": "Saw", "brand": "Bosch", "year": "1990"}).splitlines()
        ['Saw | Bosch', 'Saw', 'Saw']
        """
        return "\n".join([self.item(attributes), self.event(attributes), self.candidate(attributes)])


def _fill(pattern: str, values: Mapping[str, str]) -> str:
    """Fill a pattern; empty without a word of the item, since "Title:" or ", two days later" would pose as its name."""
    named = any(values.get(name) for name in field_names(pattern) - EVENT_FIELDS)
    return render(pattern, values).lstrip("|, ") if named else ""  # no separator before the first field there is


def _time_words(gap: int | None, moment: int | None) -> dict[str, str]:
    """Return the words for those time fields of which something is known."""
    words = None if gap is None else gap_words(gap)
    told = {} if words is None else {"gap": words}
    return told if moment is None else {**told, "weekday": weekday_word(moment), "daypart": daypart_word(moment)}


def _values(attributes: Mapping[str, str], max_words: Mapping[str, int]) -> dict[str, str]:
    """Return the attributes with white space squeezed and each cut to its number of words."""
    return {
        name: " ".join(value.split()[: max_words.get(name)])
        for name, value in attributes.items()
        if name not in EVENT_FIELDS  # an item column called "gap" must not pose as a time
    }
