from __future__ import annotations

from dataclasses import replace

import numpy as np
from small_data import cases_of

from llmrec.evaluation.strata import strata_of

COUNTS = np.array([0, 1, 5, 6, 20, 21])
ROWS = [[5, item] for item in range(6)]
CASES = cases_of(ROWS, [(row, 1) for row in range(6)], num_items=6)


def labels(stratum):
    return [stratum.labels[group] for group in stratum.group]


def test_targets_by_their_training_events():
    (by_count, _) = strata_of(CASES, COUNTS, has_clock=False)
    assert by_count.name == "target_training_count"
    assert labels(by_count) == ["0", "1–5", "1–5", "6–20", "6–20", ">20"]


def test_histories_by_their_length():
    lengths = [1, 5, 6, 20, 21, 50, 51, 200, 201]
    cases = cases_of([[0] * (length + 1) for length in lengths], [(row, n) for row, n in enumerate(lengths)], 6)
    by_length = strata_of(cases, COUNTS, has_clock=False)[1]
    assert labels(by_length) == ["1–5", "1–5", "6–20", "6–20", "21–50", "21–50", "51–200", "51–200", ">200"]


def test_gaps_by_the_clock_and_not_without_one():
    gaps = [0, 599, 600, 3599, 3600, 86399, 86400, 7 * 86400, 30 * 86400]
    cases = cases_of([[0, 1]] * len(gaps), [(row, 1) for row in range(len(gaps))], 6)
    cases = replace(cases, timestamps=[np.array([7, 7 + gap]) for gap in gaps])
    names = [stratum.name for stratum in strata_of(cases, COUNTS, has_clock=False)]
    assert "time_since_last_event" not in names
    by_gap = strata_of(cases, COUNTS, has_clock=True)[2]
    assert labels(by_gap) == [
        *("under 10 minutes", "under 10 minutes", "under 1 hour", "under 1 hour", "under 1 day", "under 1 day"),
        *("under 7 days", "under 30 days", "30 days or more"),
    ]


def test_users_new_or_known():
    by_user = strata_of(replace(CASES, num_train_events=np.array([0, 3, 0, 1, 0, 9])), COUNTS, has_clock=False)[-1]
    assert by_user.name == "user"
    assert labels(by_user) == ["new", "known", "new", "known", "new", "known"]
