"""What an audit looks for, and the form in which it says what it found."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

TITLES = {
    "future_training_events": "Training events later than a test event of the same user",
    "identical_events_across_splits": "Held-out events that stand identically in an earlier split",
    "simultaneous_training_events": "Training events at the very time of a test event of the same user",
    "training_after_test_starts": "Training events later than the first test event of all",
    "targets_known_only_later": "Targets whose item training knows from later events alone",
    "future_items": "Training items that nobody had used when the test began",
    "items_core_fitted_on_test": "Items kept by a minimum count that includes held-out events",
    "users_core_fitted_on_test": "Users kept by a minimum count that includes held-out events",
    "near_duplicate_items": "Items with the same text as another, but for case and punctuation",
    "exact_duplicates": "Events equal to another in user, item and time",
    "tied_events": "Events at the same time as another of their user",
    "ambiguous_targets": "Targets at the same time as another event of their user",
    "seen_targets": "Targets already in their history",
    "repeated_test_pairs": "Targets whose user and item stand in training at another time",
    "repeat_events": "Events that repeat an earlier item of their user",
    "cold_targets": "Targets whose item has no training event",
    "cold_users": "Test users without a training event",
    "no_clock": "Events with an ordinal instead of a time",
    "coarse_clock": "Events with a day instead of a time",
}
"""Name and title of every check, the ones that weigh most first."""

SEVERITIES = ("error", "warning", "note")
"""error: a number of this split is wrong. warning: read it with care. note: say it beside the number."""
MAX_EXAMPLES = 5
WORTH_A_WARNING = 0.01
"""Share of the targets from which a finding that moves only their metrics is a warning."""


@dataclass(frozen=True)
class Finding:
    """What one check counted.

    Attributes:
        name: A name in `TITLES`.
        count: How many were found; 0 if the check passed.
        of: Among how many.
        severity: A name in `SEVERITIES`.
        effect: One sentence: what it does to a metric, with the number.
        examples: The first few in the order of the events.

    >>> Finding("cold_users", 1, 8, "note", "They have no history.").as_dict()["share"]
    0.125
    """

    name: str
    count: int
    of: int
    severity: str
    effect: str
    examples: list[dict[str, Any]] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """Return the finding as it stands in audit.json."""
        return {
            "name": self.name,
            "title": TITLES[self.name],
            "count": self.count,
            "of": self.of,
            "share": round(share(self.count, self.of), 6),
            "severity": self.severity,
            "effect": self.effect,
            "examples": self.examples[:MAX_EXAMPLES],
        }


def share(count: float, of: float) -> float:
    """Return `count / of`, and 0 of nothing.

    >>> share(1, 4), share(0, 0)
    (0.25, 0.0)
    """
    return count / of if of else 0.0


def percent(value: float) -> str:
    """Write a share in percent, small ones with two digits that say something.

    >>> percent(0.319), percent(0.00042), percent(1.0), percent(0.0)
    ('31.9%', '0.042%', '100%', '0%')
    """
    return f"{value:.1%}".replace(".0%", "%") if value >= 0.01 or not value else f"{100 * value:.2g}%"


def counted(number: int, noun: str) -> str:
    """Write a number with its noun.

    >>> counted(1, "user"), counted(1200, "user")
    ('1 user', '1,200 users')
    """
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def graded(affected: float) -> str:
    """Return `warning` where this share of the targets is affected, `note` where it is negligible."""
    return "warning" if affected >= WORTH_A_WARNING else "note"
