from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from small_data import cases_of, catalog_of, histories_of

from llmrec.baselines.sequence_encoders import PADDING
from llmrec.baselines.sequence_training import (
    SEQUENCE_GRIDS,
    SequenceSettings,
    batch_loss,
    make_encoder,
    starting_biases,
    train_sequence,
    training_windows,
)
from llmrec.data.training_events import TrainingEvents
from llmrec.losses.sampled import bce_loss, gbce_loss

TINY = {"hidden_size": 16, "num_layers": 1, "max_length": 6, "batch_size": 60, "dropout": 0.0, "learning_rate": 2e-2}


def events_of(rows: list[list[int]], num_items: int) -> TrainingEvents:
    items = [np.array(row, dtype=np.int64) for row in rows]
    return TrainingEvents(items, [np.arange(len(row)) for row in items], num_items)


def cycles(num_items: int = 5, length: int = 12) -> TrainingEvents:
    """Users who walk a → b → c → … → a; the last item of the catalogue is cold."""
    return events_of(
        [[(start + step) % num_items for step in range(length)] for start in range(num_items)], num_items + 1
    )


def scores_after(baseline, history: list[int], num_items: int) -> np.ndarray:
    ((_, scores),) = baseline.catalogue_scores(cases_of([[*history, 0]], [(0, len(history))], num_items))
    return scores[0].numpy()


@pytest.mark.parametrize("encoder", ["sasrec", "lstm"])
@pytest.mark.parametrize(
    ("loss", "options"),
    [("softmax", {}), ("softmax", {"mask_seen": True}), ("gbce", {"num_negatives": 3}), ("bce", {})],
)
def test_each_encoder_learns_a_cycle_with_each_loss(encoder, loss, options):
    masked = options.get("mask_seen", False)  # then one lap, and the ranking leaves seen items out as the loss did
    settings = SequenceSettings(encoder=encoder, loss=loss, num_epochs=30, **TINY, **options)
    baseline, curve = train_sequence(cycles(length=5 if masked else 12), settings)
    for start in range(5):
        history = [(start + step) % 5 for step in range(4)]
        scores = scores_after(baseline, history, 6)
        if masked:
            scores[history] = -np.inf
        assert scores.argmax() == (start + 4) % 5
        assert np.isneginf(scores[5])
    assert [row["epoch"] for row in curve] == list(range(1, 31))
    assert curve[-1]["loss"] < curve[0]["loss"] / 2


def test_two_fits_are_equal_and_another_seed_is_not():
    settings = {"num_epochs": 3, "loss": "gbce", "num_negatives": 2, **TINY, "dropout": 0.5}
    first, curve = train_sequence(cycles(), SequenceSettings(**settings))
    torch.rand(3)
    second, again = train_sequence(cycles(), SequenceSettings(**settings))
    assert curve == again
    for (_, one), (_, other) in zip(first.state()[1].items(), second.state()[1].items(), strict=True):
        assert one.tobytes() == other.tobytes()
    third, _ = train_sequence(cycles(), SequenceSettings(**settings, seed=1))
    assert scores_after(first, [0, 1], 6).tolist() != scores_after(third, [0, 1], 6).tolist()


def test_the_global_random_state_is_left_alone():
    torch.manual_seed(5)
    expected = torch.rand(2)
    torch.manual_seed(5)
    train_sequence(cycles(), SequenceSettings(num_epochs=1, **TINY))
    assert torch.rand(2).equal(expected)


def test_nothing_of_validation_or_test_is_used():
    catalog = catalog_of("abcdef")
    settings = SequenceSettings(num_epochs=2, **TINY)
    fits = []
    for tail in ("def", "fed"):
        histories = histories_of(ann=("abc" + tail, "tttvxx"), ben=("bca" + tail[::-1], "tttvxx"))
        fits.append(train_sequence(TrainingEvents.from_histories(histories, catalog), settings)[0])
    one, other = (scores_after(fit, [0, 1], 6) for fit in fits)
    assert one.tolist() == other.tolist()
    assert np.isneginf(one).tolist() == [False] * 3 + [True] * 3


def test_the_best_epoch_is_kept_and_training_stops_after_it():
    values = [0.1, 0.5, 0.4, 0.3, 0.9]
    seen = []

    def quality(baseline):
        seen.append({name: array.copy() for name, array in baseline.state()[1].items()})
        return values[len(seen) - 1]

    baseline, curve = train_sequence(cycles(), SequenceSettings(num_epochs=9, patience=2, **TINY), quality)
    assert [(row["epoch"], row["value"]) for row in curve] == [(1, 0.1), (2, 0.5), (3, 0.4), (4, 0.3)]
    for name, array in baseline.state()[1].items():
        assert array.tobytes() == seen[1][name].tobytes()


def test_quality_is_asked_every_so_many_epochs_and_after_the_last():
    _, curve = train_sequence(cycles(), SequenceSettings(num_epochs=5, eval_every=2, **TINY), lambda baseline: 0.0)
    assert [row["epoch"] for row in curve] == [2, 4, 5]


def test_without_quality_the_last_epoch_is_kept():
    two, _ = train_sequence(cycles(), SequenceSettings(num_epochs=2, **TINY))
    three, curve = train_sequence(cycles(), SequenceSettings(num_epochs=3, **TINY))
    assert [row["value"] for row in curve] == [None] * 3
    assert scores_after(two, [0], 6).tolist() != scores_after(three, [0], 6).tolist()


@given(st.lists(st.integers(2, 40), min_size=1, max_size=5), st.integers(1, 10), st.integers(0, 3))
def test_windows_hold_every_target_once_and_fit(lengths, max_length, seed):
    starts = np.cumsum([0, *lengths])
    rows = [np.arange(start, start + length) for start, length in zip(starts, lengths, strict=False)]
    windows = training_windows(rows, max_length, np.random.default_rng(seed))
    assert all(2 <= len(window) <= max_length + 1 and (np.diff(window) == 1).all() for window in windows)
    targets = sorted(target for window in windows for target in window[1:].tolist())
    assert targets == [item for row in rows for item in row[1:].tolist()]


def test_the_loss_of_a_batch_is_the_mean_over_its_real_positions():
    settings = SequenceSettings(mask_seen=True, **TINY)
    torch.manual_seed(0)
    encoder = make_encoder(settings, np.ones(6))
    windows = torch.tensor([[0, 1, 2, 3], [4, 5, PADDING, PADDING]])
    together = batch_loss(encoder, windows, settings, torch.Generator()).item()
    long = batch_loss(encoder, windows[:1], settings, torch.Generator()).item()
    short = batch_loss(encoder, windows[1:, :2], settings, torch.Generator()).item()
    assert together == pytest.approx((3 * long + short) / 4, abs=1e-6)


def test_seen_items_leave_the_softmax_of_later_positions_only():
    settings = SequenceSettings(mask_seen=True, **TINY)
    encoder = make_encoder(settings, np.ones(4))
    with torch.no_grad():
        encoder.item_embeddings.weight.zero_()
    loss = batch_loss(encoder, torch.tensor([[0, 1, 0]]), settings, torch.Generator()).item()
    # All logits are zero. First: 0 is out, 1/3. Then 0 and 1 are seen, but 0 is the label: 1/3.
    assert loss == pytest.approx(np.log(3), abs=1e-6)


@pytest.mark.parametrize("loss", ["softmax", "gbce", "bce"])
def test_biases_start_where_the_expected_loss_is_least(loss):
    """Over all labels and all draws, each with its probability, no bias has a gradient."""
    counts = np.array([5, 3, 2, 1])
    settings = SequenceSettings(loss=loss, num_negatives=2)
    bias = torch.tensor(starting_biases(counts, settings), requires_grad=True)
    expected = torch.zeros((), dtype=torch.float64)
    for label, share in enumerate(counts / counts.sum()):
        others = [item for item in range(4) if item != label]
        for draw in itertools.product(others, repeat=2):
            positive, negative = bias[None, label], bias[None, list(draw)]
            if loss == "softmax":
                value = -bias.log_softmax(0)[label]
            elif loss == "gbce":
                value = gbce_loss(positive, negative, num_items=4, t=settings.gbce_t)
            else:
                value = bce_loss(positive, negative[:, :1])
            expected = expected + share / 9 * value
    expected.backward()
    assert bias.grad.abs().max() < 1e-12


def test_users_with_one_event_and_cold_items_are_no_obstacle():
    baseline, _ = train_sequence(events_of([[7], [2, 4]], 9), SequenceSettings(num_epochs=1, **TINY))
    assert np.isfinite(scores_after(baseline, [7, 0], 9)).nonzero()[0].tolist() == [2, 4, 7]
    with pytest.raises(ValueError, match="nothing to learn"):
        train_sequence(events_of([[7], [2]], 9), SequenceSettings(num_epochs=1, **TINY))


@pytest.mark.parametrize(
    "wrong",
    [
        {"encoder": "gru"},
        {"loss": "bpr"},
        {"dropout": 1.0},
        {"patience": 0},
        {"gbce_t": 2.0},
        {"loss": "gbce", "mask_seen": True},
    ],
)
def test_settings_are_checked(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong)) if "mask_seen" not in wrong else "mask_seen"):
        SequenceSettings(**wrong)


def test_grids_are_settings_of_what_they_are_named_after():
    assert list(SEQUENCE_GRIDS) == ["lstm", "sasrec", "gsasrec"]
    grids = {name: [SequenceSettings(**trial) for trial in grid] for name, grid in SEQUENCE_GRIDS.items()}
    assert all(len(set(grid)) == len(grid) <= 4 for grid in grids.values())
    assert {trial.encoder for trial in grids["lstm"]} == {"lstm"}
    assert {trial.loss for trial in grids["lstm"]} == {"softmax", "bce"}
    assert {(trial.encoder, trial.loss) for trial in grids["sasrec"]} == {("sasrec", "softmax")}
    assert {(trial.encoder, trial.loss) for trial in grids["gsasrec"]} == {("sasrec", "gbce")}
