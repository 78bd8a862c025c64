from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from llmrec.losses.candidates import candidate_softmax
from llmrec.losses.catalogue import IGNORED, full_softmax

B, L, N, D = 2, 4, 6, 3


def tensors(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Unit states (B, L, D) and items (N, D), and biases (N,)."""
    random = torch.Generator().manual_seed(seed)
    states, items = (torch.randn(*shape, D, generator=random) for shape in ((B, L), (N,)))
    return F.normalize(states, dim=-1), F.normalize(items, dim=-1), torch.randn(N, generator=random)


def by_loop(states, items, scale, bias, labels, seen) -> float:
    """-log softmax, position by position, over the items that may be shown."""
    total = 0.0
    for row in range(B):
        for place in range(L):
            label = int(labels[row, place])
            if label == IGNORED:
                continue
            shown = set(range(N))
            if seen is not None:
                shown -= {int(item) for item in seen[row, : place + 1] if item >= 0} - {label}
            scores = {
                item: float(scale) * float(states[row, place] @ items[item])
                + (0.0 if bias is None else float(bias[item]))
                for item in shown
            }
            total -= scores[label] - math.log(sum(math.exp(score) for score in scores.values()))
    return total


LABELS = st.lists(st.sampled_from([IGNORED, *range(N)]), min_size=B * L, max_size=B * L)
SEEN = st.lists(st.integers(-1, N - 1), min_size=B * L, max_size=B * L)


@settings(max_examples=60, deadline=None)
@given(LABELS, SEEN, st.booleans(), st.booleans(), st.floats(0.5, 30))
def test_the_loss_is_the_sum_of_log_softmax_by_loop(labels, seen, with_bias, mask, scale):
    states, items, bias = tensors()
    labels, seen = torch.tensor(labels).view(B, L), torch.tensor(seen).view(B, L)
    arguments = states, items, torch.tensor(scale), bias if with_bias else None, labels, seen if mask else None
    torch.testing.assert_close(full_softmax(*arguments).item(), by_loop(*arguments), rtol=1e-4, atol=1e-4)


@given(st.lists(st.floats(0, 4, width=32), min_size=B * L, max_size=B * L), LABELS)
def test_a_weight_counts_its_position_so_often(weights, labels):
    states, items, bias = tensors()
    weights, labels = torch.tensor(weights).view(B, L), torch.tensor(labels).view(B, L)
    scale = torch.tensor(5.0)
    expected = 0.0
    for row in range(B):
        for place in range(L):
            alone = torch.full((B, L), IGNORED)
            alone[row, place] = labels[row, place]
            expected += weights[row, place].item() * full_softmax(states, items, scale, bias, alone).item()
    found = full_softmax(states, items, scale, bias, labels, None, weights)
    assert found.item() == pytest.approx(expected, rel=1e-4, abs=1e-4)


def test_a_sum_over_labels_can_be_cut_anywhere():
    states, items, bias = tensors()
    labels, seen = torch.tensor([[1, IGNORED, 2, 0], [3, 4, IGNORED, 5]]), torch.tensor([[0, 1, 1, 2], [2, 3, 4, 4]])
    scale = torch.tensor(5.0)
    whole = full_softmax(states, items, scale, bias, labels, seen)
    rows = sum(
        full_softmax(states[row : row + 1], items, scale, bias, labels[row : row + 1], seen[row : row + 1])
        for row in range(B)
    )
    torch.testing.assert_close(whole, rows)


def test_ignored_positions_get_no_gradient():
    states, items, bias = tensors()
    states.requires_grad_()
    labels = torch.tensor([[1, IGNORED, 2, IGNORED], [IGNORED, IGNORED, IGNORED, 0]])
    full_softmax(states, items, torch.tensor(5.0), bias, labels).backward()
    assert torch.equal(states.grad.abs().sum(-1) > 0, labels != IGNORED)


def test_nothing_to_learn_costs_nothing():
    learned = [tensor.requires_grad_() for tensor in (*tensors(), torch.tensor(5.0))]
    states, items, bias, scale = learned
    loss = full_softmax(states, items, scale, bias, torch.full((B, L), IGNORED))
    loss.backward()
    assert loss.item() == 0
    assert all(tensor.grad is not None and not tensor.grad.any() for tensor in learned)  # processes add them up


def test_gradients_are_those_of_small_differences():
    states, items, bias, scale = (tensor.double().requires_grad_() for tensor in (*tensors(), torch.tensor(5.0)))
    labels, seen = torch.tensor([[1, IGNORED, 2, 0], [3, 4, IGNORED, 5]]), torch.tensor([[0, 1, 1, 2], [2, 3, 4, 4]])
    weights = torch.rand(B, L, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert torch.autograd.gradcheck(
        lambda *learned: full_softmax(*learned, labels, seen, weights), (states, items, scale, bias)
    )


def test_seen_items_get_no_gradient_unless_they_are_the_label():
    states, items, bias = tensors()
    items.requires_grad_()
    labels = torch.tensor([[IGNORED, IGNORED, 1, IGNORED], [IGNORED] * 4])
    seen = torch.tensor([[0, 1, 2, 3], [5, 5, 5, 5]])
    full_softmax(states, items, torch.tensor(5.0), bias, labels, seen).backward()
    assert [bool(row.any()) for row in items.grad] == [False, True, False, True, True, True]


def test_a_repeated_target_is_learned_as_well():
    states, items, _ = tensors()
    labels, seen = torch.tensor([[1, IGNORED, IGNORED, IGNORED], [IGNORED] * 4]), torch.full((B, L), 1)
    assert full_softmax(states, items, torch.tensor(5.0), None, labels, seen).isfinite()


def test_a_history_of_the_whole_catalogue_is_no_trouble():
    states, items = torch.randn(1, N, D), torch.randn(N, D).requires_grad_()
    seen = torch.arange(N)[None]
    labels = torch.tensor([[1, 2, 3, 4, 5, 0]])
    loss = full_softmax(states, items, torch.tensor(5.0), None, labels, seen)
    loss.backward()
    assert loss.isfinite() and items.grad.isfinite().all()


@pytest.mark.parametrize("scale", [1.0, 100.0])
def test_a_perfect_scorer_loses_nothing_and_a_constant_one_log_n(scale):
    labels = torch.tensor([[0, 1, 2, 3]])
    perfect = full_softmax(100 * torch.eye(4)[None], torch.eye(4), torch.tensor(scale), None, labels)
    assert perfect.item() == pytest.approx(0, abs=1e-6)
    constant = full_softmax(torch.ones(1, 4, 4), torch.ones(4, 4), torch.tensor(scale), None, labels)
    assert constant.item() == pytest.approx(4 * math.log(4))


def test_candidates_by_hand():
    """e^s of the positives and their rivals: 2 against 2 + 6, 3 against 3 + 1 + 4; the 9 hangs on nothing."""
    scores = torch.tensor([[2.0, 6.0, 9.0], [4.0, 3.0, 1.0]]).log()
    places = torch.tensor([[0, 1, -1], [4, 5, 3]])
    expected = (math.log((2 + 6) / 2) + math.log((3 + 1 + 4) / 3)) / 2
    assert candidate_softmax(scores, places).item() == pytest.approx(expected)


@st.composite
def hanging(draw):
    """Flat scores (C,) and the places of some positions, some of them empty, each with a positive."""
    scores = draw(st.lists(st.floats(-40, 40, width=32), min_size=1, max_size=12))
    place = st.integers(0, len(scores) - 1)
    width = draw(st.integers(0, 4))
    rows = st.lists(st.integers(-3, len(scores) - 1), min_size=width, max_size=width)
    return scores, draw(st.lists(st.tuples(place, rows), min_size=1, max_size=5))


@given(hanging())
def test_the_candidate_loss_is_the_mean_of_log_softmax_by_loop(situation):
    scores, rows = situation
    losses = []
    for positive, negatives in rows:
        rivals = [scores[place] for place in (positive, *negatives) if place >= 0]
        losses.append(math.log(sum(math.exp(score - scores[positive]) for score in rivals)))
    places = torch.tensor([[positive, *negatives] for positive, negatives in rows])
    found = candidate_softmax(torch.tensor(scores), places).item()
    assert found == pytest.approx(sum(losses) / len(losses), rel=1e-4, abs=1e-5)


def test_only_what_hangs_on_a_position_gets_a_gradient():
    """The positive is pulled up, its rivals are pushed down, each row sums to nothing; -1 is not the last, nor 0."""
    scores = torch.randn(2, 4, generator=torch.Generator().manual_seed(0)).requires_grad_()
    candidate_softmax(scores, torch.tensor([[1, 2, -1], [5, -1, 6]])).backward()
    assert torch.sign(scores.grad).tolist() == [[0, -1, 1, 0], [0, -1, 1, 0]]
    torch.testing.assert_close(scores.grad.sum(1), torch.zeros(2))


def test_a_position_without_negatives_costs_nothing():
    assert candidate_softmax(torch.tensor([3.0, 5.0]), torch.tensor([[0, -1], [1, -1]])).item() == 0
