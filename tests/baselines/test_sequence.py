from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from small_data import cases_of

from llmrec.baselines import sequence
from llmrec.baselines.sequence import SequenceBaseline, pad
from llmrec.baselines.sequence_encoders import LSTM, PADDING, SASRec

COUNTS = np.array([4, 0, 2, 7, 0, 1, 1, 3])  # items 1 and 4 are cold
KNOWN = [0, 2, 3, 5, 6, 7]


def baseline_of(kind: type, max_length: int = 5, **shape: int) -> SequenceBaseline:
    torch.manual_seed(0)
    sizes = {"hidden_size": 8, "num_layers": 2, "num_heads": 2, **shape}
    encoder = kind(num_items=len(KNOWN), max_length=max_length, dropout=0.3, **sizes)
    for parameter in encoder.parameters():  # larger than at the start, so that a wrong position shows
        torch.nn.init.normal_(parameter, std=0.5)
    encoder.eval()
    return SequenceBaseline(encoder, COUNTS)


def all_scores(baseline: SequenceBaseline, histories: list[list[int]]) -> torch.Tensor:
    cases = cases_of([[*history, 0] for history in histories], [(row, len(h)) for row, h in enumerate(histories)], 8)
    batches = list(baseline.catalogue_scores(cases))
    scores = torch.empty(len(histories), 8)
    numbers = np.concatenate([numbers for numbers, _ in batches])
    assert sorted(numbers.tolist()) == list(range(len(histories)))
    scores[numbers] = torch.cat([part for _, part in batches])
    return scores


both = pytest.mark.parametrize("kind", [SASRec, LSTM])


@both
@torch.no_grad()
def test_later_items_change_no_earlier_state(kind):
    encoder = baseline_of(kind).encoder
    one, other = encoder(torch.tensor([[0, 3, 1, 5], [0, 3, 2, 4]]))
    torch.testing.assert_close(one[:2], other[:2], rtol=0, atol=1e-6)
    assert (one[2:] - other[2:]).abs().max() > 1e-3


@both
@torch.no_grad()
def test_earlier_items_and_their_order_do_change_it(kind):
    encoder = baseline_of(kind).encoder
    states = encoder(torch.tensor([[0, 3, 1], [3, 0, 1], [5, 3, 1]]))[:, -1]
    assert (states[0] - states[1]).abs().max() > 1e-3
    assert (states[0] - states[2]).abs().max() > 1e-3


@both
@torch.no_grad()
def test_padding_changes_no_state(kind):
    encoder = baseline_of(kind).encoder
    padded = encoder(torch.tensor([[2, 4, PADDING, PADDING], [1, 2, 3, 4]]))
    torch.testing.assert_close(padded[0, :2], encoder(torch.tensor([[2, 4]]))[0], rtol=0, atol=1e-6)


def test_a_state_by_hand():
    """One block whose layers all give zero leaves a normalised sum of item and position embedding."""
    encoder = SASRec(num_items=2, max_length=3, hidden_size=4, num_layers=1, dropout=0.0)
    with torch.no_grad():
        for name, parameter in encoder.blocks.named_parameters():
            if "norm" not in name:
                parameter.zero_()
        encoder.item_embeddings.weight.copy_(torch.tensor([[1.0, 0, 0, 0], [0, 1.0, 0, 0]]))
        encoder.position_embeddings.weight.copy_(torch.tensor([[9.0] * 4, [0, 0, 1.0, 0], [0, 0, 0, 3.0]]))
        states = encoder(torch.tensor([[0, 1]]))
    # Two items stand at the last two of three positions; embeddings are scaled by √4.
    for state, total in zip(states[0], ([2.0, 0, 1, 0], [0, 2.0, 0, 3]), strict=True):
        expected = (np.array(total) - np.mean(total)) / np.sqrt(np.var(total) + 1e-5)
        assert state.tolist() == pytest.approx(expected.tolist(), abs=1e-6)


@both
def test_cold_items_score_minus_infinity_and_no_other(kind):
    scores = all_scores(baseline_of(kind), [[0, 2], [1, 4], [7]])
    assert scores.dtype == torch.float32
    assert scores.isneginf().tolist() == [[item not in KNOWN for item in range(8)]] * 3
    assert scores[:, KNOWN].isfinite().all()


@both
def test_cold_items_in_a_history_are_skipped(kind):
    scores = all_scores(baseline_of(kind), [[0, 2, 3], [0, 1, 2, 4, 3, 1], [4, 4, 4, 4, 4, 4, 0, 2, 3]])
    torch.testing.assert_close(scores[1:], scores[:1].expand(2, -1), rtol=0, atol=1e-6)


@both
def test_a_history_of_cold_items_is_scored_by_popularity(kind):
    scores = all_scores(baseline_of(kind), [[1], [4, 1]])
    assert scores[0].tolist() == scores[1].tolist()
    assert scores[0].argsort(descending=True, stable=True).tolist() == [3, 0, 7, 2, 5, 6, 1, 4]
    assert scores[0, 5] == scores[0, 6]


@both
def test_only_the_last_events_are_read(kind):
    scores = all_scores(baseline_of(kind, max_length=3), [[7, 0, 0, 5, 2, 3], [5, 2, 3], [2, 3]])
    torch.testing.assert_close(scores[0], scores[1], rtol=0, atol=1e-6)
    assert (scores[1, KNOWN] - scores[2, KNOWN]).abs().max() > 1e-3


@both
@torch.no_grad()
def test_the_scores_of_a_case_are_its_last_state_times_the_outputs(kind):
    baseline = baseline_of(kind)
    encoder = baseline.encoder
    state = encoder(torch.tensor([[5, 1, 0]]))[0, -1]  # items 7, 2, 0 by their numbers among the known
    expected = [
        float(state @ encoder.output_weight[number]) + encoder.output_bias[number].item() for number in range(6)
    ]
    assert all_scores(baseline, [[7, 2, 0]])[0, KNOWN].tolist() == pytest.approx(expected, abs=1e-5)


@both
def test_scores_do_not_depend_on_the_other_cases(kind, monkeypatch):
    random = np.random.default_rng(0)
    histories = [random.integers(8, size=random.integers(1, 12)).tolist() for _ in range(40)]
    baseline = baseline_of(kind)
    together = all_scores(baseline, histories)
    alone = torch.cat([all_scores(baseline, [history]) for history in histories])
    torch.testing.assert_close(together, alone, rtol=1e-6, atol=1e-6)
    assert together.equal(all_scores(baseline, histories))
    monkeypatch.setattr(sequence, "MAX_BATCH_EVENTS", 17)
    torch.testing.assert_close(all_scores(baseline, histories), alone, rtol=1e-6, atol=1e-6)


def test_several_cases_of_one_user_are_read_each_up_to_its_target():
    baseline = baseline_of(SASRec)
    cases = cases_of([[0, 1, 2, 3, 7]], [(0, 4), (0, 1), (0, 3)], 8)
    ((numbers, part),) = baseline.catalogue_scores(cases)
    scores = dict(zip(numbers.tolist(), part, strict=True))
    expected = all_scores(baseline, [[0, 1, 2, 3], [0], [0, 1, 2]])
    for number in range(3):
        torch.testing.assert_close(scores[number], expected[number], rtol=1e-6, atol=1e-6)


def test_scoring_leaves_the_mode_of_the_encoder_as_it_was():
    baseline = baseline_of(SASRec)
    baseline.encoder.train()
    first = all_scores(baseline, [[0, 2]])
    assert baseline.encoder.training
    assert first.equal(all_scores(baseline, [[0, 2]]))  # without dropout


@both
def test_state_round_trip_scores_equally_to_the_last_bit(kind):
    baseline = baseline_of(kind)
    settings, arrays = baseline.state()
    again = SequenceBaseline.from_state(json.loads(json.dumps(settings)), {k: v.copy() for k, v in arrays.items()})
    histories = [[0, 2, 3], [1], [7, 7, 5, 6, 2, 1, 0]]
    assert all_scores(again, histories).equal(all_scores(baseline, histories))
    assert again.state()[0] == settings
    assert settings["encoder"] == {SASRec: "sasrec", LSTM: "lstm"}[kind]


def test_what_does_not_fit_is_refused():
    settings, arrays = baseline_of(SASRec).state()
    with pytest.raises(ValueError, match="'gru'"):
        SequenceBaseline.from_state({**settings, "encoder": "gru"}, arrays)
    with pytest.raises(ValueError, match="do not fit"):
        SequenceBaseline.from_state({**settings, "hidden_size": 16}, arrays)
    with pytest.raises(ValueError, match="6 items for 8"):
        SequenceBaseline.from_state(settings, {**arrays, "counts": np.ones(8, dtype=np.int64)})
    with pytest.raises(ValueError, match="divisible"):
        SASRec(num_items=3, max_length=3, hidden_size=8, num_layers=1, num_heads=3, dropout=0.0)
    with pytest.raises(ValueError, match="max_length is 0"):
        LSTM(num_items=3, max_length=0, hidden_size=8, num_layers=1, dropout=0.0)


def test_pad_of_nothing_is_empty():
    assert pad([]).shape == (0, 0)
