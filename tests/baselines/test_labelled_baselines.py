from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from llmrec.baselines.frozen_text import fit_logistic, frozen_text_logits, text_margins
from llmrec.data.like_rates import (
    STRENGTH,
    item_log_odds,
    like_rate_logits,
    odds_without_own,
    overall_rate,
    pair_log_odds,
)


@dataclass
class Rows:
    items: list[np.ndarray]
    liked: list[np.ndarray]
    user: np.ndarray
    position: np.ndarray

    @property
    def targets(self) -> np.ndarray:
        return np.array([self.items[user][place] for user, place in zip(self.user, self.position, strict=True)])

    @property
    def labels(self) -> np.ndarray:
        return np.array([self.liked[user][place] for user, place in zip(self.user, self.position, strict=True)])


def random_rows(num_users: int = 12, num_items: int = 15, seed: int = 0) -> Rows:
    random = np.random.default_rng(seed)
    lengths = random.integers(2, 9, size=num_users)
    user = np.repeat(np.arange(num_users), lengths - 1)
    position = np.concatenate([np.arange(1, length) for length in lengths])
    order = random.permutation(len(user))
    return Rows(
        [random.integers(num_items, size=length) for length in lengths],
        [random.random(length) < 0.5 for length in lengths],
        user[order],
        position[order],
    )


def test_margins_against_brute_force() -> None:
    rows = random_rows()
    vectors = np.random.default_rng(1).normal(size=(15, 4))
    vectors[3] = 0  # an item without words

    def cosine(left: int, right: int) -> float:
        lengths = np.linalg.norm(vectors[left]) * np.linalg.norm(vectors[right])
        return vectors[left] @ vectors[right] / lengths if lengths else 0.0

    expected = []
    for user, place in zip(rows.user, rows.position, strict=True):
        target = rows.items[user][place]
        history = list(zip(rows.items[user][:place], rows.liked[user][:place], strict=True))
        means = [
            np.mean([cosine(item, target) for item, liked in history if liked == label] or [0])
            for label in (True, False)
        ]
        expected.append(means[0] - means[1])
    assert text_margins(rows, vectors) == pytest.approx(np.array(expected))


def test_nothing_from_the_target_on_moves_a_margin() -> None:
    rows = random_rows()
    vectors = np.random.default_rng(1).normal(size=(15, 4))
    before = text_margins(rows, vectors)
    for case, (user, place) in enumerate(zip(rows.user, rows.position, strict=True)):
        changed = random_rows()
        changed.liked[user][place:] = ~changed.liked[user][place:]
        changed.items[user][place + 1 :] = 0
        assert text_margins(changed, vectors)[case] == before[case]


@pytest.mark.parametrize(("num_examples", "scale"), [(16, 1.0), (64, 0.01), (300, 50.0)])
def test_the_fit_is_that_of_scikit_learn(num_examples: int, scale: float) -> None:
    random = np.random.default_rng(num_examples)
    values = scale * random.normal(size=num_examples) + 3 * scale
    labels = random.random(num_examples) < 1 / (1 + np.exp(-(values / scale - 3) * 2 - 1))
    fitted = fit_logistic(values, labels)
    standardised = ((values - values.mean()) / values.std())[:, None]
    expected = (
        LogisticRegression(C=1.0, tol=1e-10, max_iter=1000).fit(standardised, labels).decision_function(standardised)
    )
    assert fitted.logits(values) == pytest.approx(expected, abs=1e-4)


def test_a_fit_of_values_that_part_the_labels_or_are_all_the_same_is_finite() -> None:
    parted = fit_logistic(np.array([0.0, 0.1, 0.9, 1.0]), np.array([False, False, True, True]))
    assert 0 < parted.scale < 100 and parted.logits(np.array([0.5]))[0] == pytest.approx(0, abs=1e-9)
    flat = fit_logistic(np.zeros(4), np.array([True, True, True, False]))
    assert flat.logits(np.zeros(1))[0] == pytest.approx(np.log(3))
    with pytest.raises(ValueError, match="all 3 labels are the same"):
        fit_logistic(np.arange(3.0), np.ones(3, dtype=bool))


def test_frozen_text_prefers_what_is_near_the_likes() -> None:
    vectors = np.eye(2)[[0] * 5 + [1] * 5] + 0.01
    likes_the_first_kind = [np.array([0, 5, 1, 6]), np.array([True, False, True, False])]
    likes_the_second = [np.array([2, 7, 3, 8]), np.array([False, True, False, True])]
    items, liked = zip(likes_the_first_kind, likes_the_second, strict=True)
    train = Rows(list(items), list(liked), np.array([0, 0, 1, 1]), np.array([2, 3, 2, 3]))
    logits = frozen_text_logits(train, train, vectors)
    assert ((logits > 0) == train.labels).all()


def test_like_rates_by_hand() -> None:
    items, liked = np.array([0, 0, 0, 1, 2]), np.array([True, True, False, False, True])
    logits = like_rate_logits(items, liked, num_items=4, strength=2.0)
    overall = 4 / 7
    rates = [(2 + 2 * overall) / 5, 2 * overall / 3, (1 + 2 * overall) / 3, overall]
    assert logits == pytest.approx(np.log(np.array(rates) / (1 - np.array(rates))))
    assert np.isfinite(like_rate_logits(items, np.ones(5, dtype=bool), num_items=4)).all()
    with pytest.raises(ValueError, match="one label per event"):
        like_rate_logits(items, liked[:2], 4)
    with pytest.raises(ValueError, match="strength is 0"):
        like_rate_logits(items, liked, 4, strength=0)


def odds(likes: float, events: float, overall: float) -> float:
    rate = (likes + STRENGTH * overall) / (events + STRENGTH)
    return np.log(rate / (1 - rate))


def test_a_pair_is_judged_by_the_user_so_far_and_the_item() -> None:
    rows = random_rows()
    items, liked = np.concatenate(rows.items), np.concatenate(rows.liked)
    overall = (sum(liked) + 1) / (len(liked) + 2)
    assert overall_rate(liked) == pytest.approx(overall)
    found = pair_log_odds(rows, item_log_odds(items, liked, 16)[rows.targets], overall)
    for case, (user, place) in enumerate(zip(rows.user, rows.position, strict=True)):
        mine = odds(sum(rows.liked[user][:place]), place, overall)
        shown = liked[items == rows.items[user][place]]
        others = odds(sum(shown), len(shown), overall)
        assert found[case] == pytest.approx(mine + others - np.log(overall / (1 - overall)))
    assert item_log_odds(items, liked, 16)[15] == pytest.approx(0)  # nobody was shown it


def test_a_training_pair_starts_from_what_all_others_say() -> None:
    """By hand: its own event left out of those of its item."""
    rows = random_rows()
    items, liked = np.concatenate(rows.items), np.concatenate(rows.liked)
    overall = overall_rate(liked)
    begins = np.cumsum([0, *map(len, rows.items)])
    found = odds_without_own(rows, items, liked)
    for case, (user, place) in enumerate(zip(rows.user, rows.position, strict=True)):
        others = np.arange(len(items)) != begins[user] + place
        shown = liked[others & (items == rows.items[user][place])]
        assert found[case] == pytest.approx(odds(sum(shown), len(shown), overall) - np.log(overall / (1 - overall)))
