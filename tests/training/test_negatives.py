from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from llmrec.text.batch import PADDING
from llmrec.training.negatives import KINDS, draw_negatives

D = 5


def draw(labels: list[int], counts: list[int], seed: int = 0, **settings: Any) -> Tensor:
    """Draw for positives (P,) among items with counts (N,); scores, texts and what was seen are random unless given."""
    random = torch.Generator().manual_seed(seed)
    shape = len(labels), len(counts)
    given = {
        "kinds": KINDS,
        "num_negatives": 5,
        "scores": torch.randn(shape, generator=random),
        "text": F.normalize(torch.randn(len(counts), D, generator=random), dim=-1),
        "seen": torch.rand(shape, generator=random) < 0.3,
        "mask_seen": False,
        "num_proposed": 4,
        "generator": random,
    }
    assert settings.keys() <= given.keys()
    return draw_negatives(labels=torch.tensor(labels), counts=torch.tensor(counts), **{**given, **settings})


def real(row: Tensor) -> list[int]:
    return [item for item in row.tolist() if item != PADDING]


@st.composite
def situations(draw_value: Any) -> dict[str, Any]:
    """A small catalogue, positives that have a count, and what every history holds."""
    counts = draw_value(st.lists(st.integers(0, 3), min_size=1, max_size=9).filter(any))
    wanted = st.sampled_from([item for item, count in enumerate(counts) if count])
    labels = draw_value(st.lists(wanted, min_size=1, max_size=4))
    cells = len(labels) * len(counts)
    seen = draw_value(st.lists(st.booleans(), min_size=cells, max_size=cells))
    return {
        "labels": labels,
        "counts": counts,
        "seen": torch.tensor(seen).view(len(labels), len(counts)),
        "mask_seen": draw_value(st.booleans()),
        "kinds": draw_value(st.lists(st.sampled_from(KINDS), min_size=1, max_size=5)),
        "num_negatives": draw_value(st.integers(1, 14)),
        "num_proposed": draw_value(st.integers(1, 9)),
        "seed": draw_value(st.integers(0, 2**31)),
    }


@given(situations())
def test_no_positive_no_item_twice_none_masked_and_none_that_is_never_a_target(situation):
    drawn = draw(**situation)
    labels, counts, seen = (situation[name] for name in ("labels", "counts", "seen"))
    assert drawn.dtype == torch.int64 and drawn.shape == (len(labels), situation["num_negatives"])
    for row, label in enumerate(labels):
        items = real(drawn[row])
        assert len(items) == len(set(items))
        assert label not in items
        assert all(counts[item] > 0 for item in items)
        assert not situation["mask_seen"] or not any(seen[row, item] for item in items)
    assert torch.equal(drawn, draw(**situation))


@given(situations())
def test_what_is_missing_is_missing_because_there_is_no_more(situation):
    """Of a kind that draws from anything, as many as are allowed; of `history`, as many as were seen."""
    kind = situation["kinds"][0]
    if kind in ("proposed", "text"):
        situation["num_proposed"] = 9
    drawn = draw(**{**situation, "kinds": [kind]})
    for row, label in enumerate(situation["labels"]):
        allowed = {item for item, count in enumerate(situation["counts"]) if count} - {label}
        past = set(situation["seen"][row].nonzero()[:, 0].tolist())
        allowed = allowed & past if kind == "history" else allowed
        allowed = allowed - past if situation["mask_seen"] else allowed
        items = real(drawn[row])
        assert set(items) <= allowed
        assert len(items) == min(situation["num_negatives"], len(allowed))


def test_a_catalogue_smaller_than_asked_is_padded():
    drawn = draw([1], [1, 1, 1], kinds=["uniform", "popular"], num_negatives=7)
    assert drawn.shape == (1, 7) and sorted(real(drawn[0])) == [0, 2]
    assert draw([0], [1], num_negatives=3).tolist() == [[PADDING] * 3]


def test_the_generator_alone_decides():
    one, other = (draw([0] * 50, [1] * 30, generator=torch.Generator().manual_seed(seed)) for seed in (1, 2))
    torch.manual_seed(5)
    again = draw([0] * 50, [1] * 30, generator=torch.Generator().manual_seed(1))
    assert torch.equal(one, again) and not torch.equal(one, other)
    assert len({tuple(row) for row in one.tolist()}) > 40  # every position draws on its own


@pytest.mark.parametrize("num_negatives", range(1, 12))
def test_kinds_have_equal_shares_the_first_ones_the_rest(num_negatives):
    """Three kinds that cannot be confused: the best by score, the nearest by text, and what was seen."""
    proposed, near, past = set(range(1, 11)), set(range(11, 21)), set(range(21, 31))
    scores, text, seen = torch.zeros(1, 31), torch.zeros(31, 2), torch.zeros(1, 31, dtype=torch.bool)
    scores[0, list(proposed)] = 1.0
    text[:] = torch.tensor([0.0, 1.0])
    text[[0, *near]] = torch.tensor([1.0, 0.0])
    seen[0, list(past)] = True
    settings = {"scores": scores, "text": text, "seen": seen, "num_proposed": 10, "num_negatives": num_negatives}
    items = set(real(draw([0], [1] * 31, kinds=["proposed", "text", "history"], **settings)[0]))
    shares = [len(items & kind) for kind in (proposed, near, past)]
    assert sum(shares) == len(items) == num_negatives
    assert shares == [(num_negatives + 2) // 3, (num_negatives + 1) // 3, num_negatives // 3]


@pytest.mark.parametrize("mask_seen", [False, True])
def test_proposed_are_any_of_the_first_by_score_that_may_stand_there(mask_seen):
    #           positive, best but never a target, seen,  then in order of score
    scores = torch.tensor([5.0, 9.0, 8.0, 7.0, 6.0, 4.0, 3.0, 2.0])
    counts, seen = [1, 0, 1, 1, 1, 1, 1, 1], torch.tensor([False, False, True] + [False] * 5)
    rows = 400
    drawn = draw(
        [0] * rows,
        counts,
        kinds=["proposed"],
        num_negatives=2,
        num_proposed=3,
        scores=scores.expand(rows, -1),
        seen=seen.expand(rows, -1),
        mask_seen=mask_seen,
    )
    first = {3, 4, 5} if mask_seen else {2, 3, 4}
    times = Counter(drawn.flatten().tolist())
    assert set(times) == first
    assert all(abs(times[item] - rows * 2 / 3) < 60 for item in first)  # none is favoured; 6 standard deviations


def test_text_draws_from_the_nearest_to_the_positive_whatever_the_scores():
    angles = torch.tensor([0.0, 0.1, -0.2, 0.3, 1.0, 2.0, 3.0, 0.05])
    text = torch.stack([angles.cos(), angles.sin()], dim=1)
    counts = [1, 1, 1, 1, 1, 1, 1, 0]  # the nearest of all is never a target
    labels = [0] * 50 + [5] * 50  # of item 5: 4 and 6 are one radian away, 3 is 1.7
    drawn = draw(labels, counts, kinds=["text"], num_negatives=1, num_proposed=3, text=text)
    assert {item for row in drawn[:50] for item in real(row)} == {1, 2, 3}
    assert {item for row in drawn[50:] for item in real(row)} == {3, 4, 6}


def chi_square(drawn: Tensor, expected: dict[int, float]) -> float:
    """Of single draws against the share of every item that should occur."""
    times = Counter(drawn.flatten().tolist())
    assert set(times) <= set(expected)
    return sum((times[item] - drawn.numel() * share) ** 2 / (drawn.numel() * share) for item, share in expected.items())


def test_popular_follows_the_counts_and_uniform_does_not():
    """6 items are left of 8; a chi-square of 5 degrees of freedom exceeds 30 once in 70,000 times."""
    counts, rows = [50, 0, 1, 2, 4, 8, 16, 30], 20_000
    left = {item: count for item, count in enumerate(counts) if count and item != 0}
    by_count = {item: count / sum(left.values()) for item, count in left.items()}
    by_kind = {
        kind: draw([0] * rows, counts, kinds=[kind], num_negatives=1) for kind in ("popular", "uniform", "proposed")
    }
    assert chi_square(by_kind["popular"], by_count) < 30
    assert chi_square(by_kind["uniform"], dict.fromkeys(left, 1 / 6)) < 30
    assert chi_square(by_kind["uniform"], by_count) > 1_000


def test_history_draws_what_was_seen_in_that_row_alone():
    seen = torch.zeros(3, 8, dtype=torch.bool)
    seen[0, [0, 2, 5]], seen[1, [1, 3, 4]], seen[2, 7] = True, True, True
    labels = [0, 3, 7]
    for seed in range(20):
        drawn = draw(labels, [1] * 8, seed, kinds=["history"], seen=seen, num_negatives=2)
        assert [sorted(real(row)) for row in drawn] == [[2, 5], [1, 4], []]


def test_history_leaves_room_to_the_other_kinds():
    """With seen items masked it has nothing to draw, and its places stay empty."""
    seen = torch.zeros(1, 30, dtype=torch.bool)
    seen[0, :10] = True
    drawn = draw([20], [1] * 30, kinds=["history", "uniform"], seen=seen, mask_seen=True, num_negatives=8)
    assert drawn[0, :4].tolist() == [PADDING] * 4 and len(real(drawn[0, 4:])) == 4
    assert not set(real(drawn[0])) & set(range(10))


def test_a_later_kind_makes_up_for_what_an_earlier_one_took():
    """Both draw from the two best; the second goes on down the list."""
    scores = torch.arange(8.0, 0, -1)[None]
    drawn = draw([0], [1] * 8, kinds=["proposed", "proposed"], num_negatives=4, num_proposed=2, scores=scores)
    assert set(drawn[0, :2].tolist()) == {1, 2} and set(drawn[0, 2:].tolist()) == {3, 4}
