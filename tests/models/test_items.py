from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from llmrec.models.items import ItemTable


def table(num_items: int = 5, hybrid: bool = True, counts: torch.Tensor | None = None) -> ItemTable:
    torch.manual_seed(0)
    counts = torch.arange(1, num_items + 1) if counts is None else counts
    made = ItemTable(F.normalize(torch.randn(num_items, 4), dim=-1), hybrid, counts, popularity_weight=0.5)
    with torch.no_grad():
        for weight in made.parameters():
            weight.normal_()
    return made


def test_everything_learned_starts_at_zero():
    made = ItemTable(torch.eye(3), hybrid=True)
    used = made()
    assert torch.equal(used.text, torch.eye(3))
    assert not used.input_residual.any() and not used.output_residual.any() and not used.bias.any()
    assert {name for name, _ in made.named_parameters()} == {"input_residual", "output_residual", "bias"}


def test_text_alone_learns_nothing():
    made = ItemTable(torch.eye(3), hybrid=False)
    assert list(made.parameters()) == []
    assert made()[1:] == (None, None, None)
    assert len(made) == 3


def test_the_text_is_not_part_of_what_is_trained_or_saved_with_the_model():
    assert "text" not in table().state_dict()
    assert not table().text.requires_grad


@pytest.mark.parametrize("hybrid", [True, False])
@pytest.mark.parametrize("training", [True, False])
def test_new_items_have_text_and_nothing_learned(hybrid, training):
    old = table(hybrid=hybrid).train(training)
    new_text = F.normalize(torch.randn(2, 4), dim=-1)
    longer = old.extend(new_text)
    assert len(longer) == 7 and len(old) == 5
    assert longer.training == training and longer.hybrid == hybrid
    assert torch.equal(longer.text, torch.cat([old.text, new_text]))
    for (name, before), after in zip(old.named_parameters(), longer.parameters(), strict=True):
        assert torch.equal(after[:5], before), name
        assert not after[5:].any(), name
        assert after.data_ptr() != before.data_ptr()
    assert longer.counts.tolist() == [1, 2, 3, 4, 5, 0, 0] and longer.popularity_weight == 0.5


@pytest.mark.parametrize("hybrid", [True, False])
@pytest.mark.parametrize("rows", [[4, 0, 2], [1, 1], []])
def test_selected_rows_are_those_rows(hybrid, rows):
    old = table(hybrid=hybrid)
    chosen = old.select(torch.tensor(rows, dtype=torch.long))
    assert torch.equal(chosen.text, old.text[rows]) and torch.equal(chosen.counts, old.counts[rows])
    assert chosen.popularity_weight == 0.5
    for before, after in zip(old.parameters(), chosen.parameters(), strict=True):
        assert torch.equal(after, before[rows])


def test_what_is_learned_counts_by_how_often_an_item_was_seen():
    made = table(counts=torch.tensor([0, 1, 5, 45, 10**9])).eval()
    used = made()
    for name, trust in enumerate([0, 1 / 6, 1 / 2, 9 / 10, 1]):
        torch.testing.assert_close(used.input_residual[name], trust * made.input_residual[name])
        torch.testing.assert_close(used.output_residual[name], trust * made.output_residual[name])
    prior = torch.tensor([0, math.log(1.1), math.log(1.5), math.log(5.5), math.log(10**8 + 1)])
    torch.testing.assert_close(used.bias, torch.tensor([0, 1 / 6, 1 / 2, 9 / 10, 1]) * made.bias + 0.5 * prior)


def test_popularity_is_what_it_is_in_training_and_smoothed_with_the_chosen_weight_elsewhere():
    made = ItemTable(torch.eye(3), True, torch.tensor([0, 1, 20]), popularity_weight=0.25)
    torch.testing.assert_close(made.train()().bias, torch.log(torch.tensor([1.0, 2.0, 21.0])))
    torch.testing.assert_close(made.eval()().bias, torch.log(torch.tensor([1.0, 1.1, 3.0])) / 4)
    torch.testing.assert_close(made.eval()(torch.tensor([2])).bias, torch.log(torch.tensor([3.0])) / 4)


def test_what_is_judged_by_its_logit_is_trained_on_it():
    made = ItemTable(torch.eye(3), True, torch.tensor([0, 1, 20]), popularity_weight=0.25)
    made.adjusts = False
    assert torch.equal(made.train()().bias, made.eval()().bias)
    assert not made.select(torch.tensor([1])).adjusts


def test_an_item_that_was_never_seen_learns_nothing():
    made = table(counts=torch.tensor([0, 1, 0, 2, 7])).train()
    used = made()
    (used.input_residual.sum() + used.output_residual.sum() + used.bias.sum()).backward()
    for weight in made.parameters():
        assert not weight.grad[[0, 2]].any() and weight.grad[[1, 3, 4]].all()


def test_dropout_takes_whole_items_with_all_that_was_learned_and_only_in_training():
    made = table(2_000, counts=torch.full((2_000,), 10**9))
    made.residual_dropout = 0.3
    torch.manual_seed(1)
    used, prior = made.train()(), torch.log1p(made.counts)
    dropped = (used.input_residual == 0).all(1)
    assert torch.equal(dropped, (used.output_residual == 0).all(1))
    assert torch.equal(dropped, used.bias == prior)  # popularity is known, not learned
    torch.testing.assert_close(used.input_residual[~dropped], made.input_residual[~dropped])
    torch.testing.assert_close(used.output_residual[~dropped], made.output_residual[~dropped])
    assert 0.25 < dropped.float().mean() < 0.35
    other = (made().input_residual == 0).all(1)
    assert not torch.equal(dropped, other)  # drawn anew at every step
    whole = made.eval()()
    torch.testing.assert_close(whole.input_residual, made.input_residual)
    torch.testing.assert_close(whole.output_residual, made.output_residual)


def test_a_dropped_item_gets_no_gradient():
    made = table(50)
    made.residual_dropout = 0.5
    used = made.train()()
    (used.input_residual.sum() + used.output_residual.sum() + used.bias.sum()).backward()
    dropped = (used.input_residual == 0).all(1)
    assert dropped.any() and not dropped.all()
    for weight in made.parameters():
        assert not weight.grad[dropped].any() and weight.grad[~dropped].all()


@pytest.mark.parametrize("hybrid", [True, False])
def test_tables_made_of_others_drop_as_many_items(hybrid):
    old = table(hybrid=hybrid)
    old.residual_dropout = 0.4
    longer, chosen = old.extend(F.normalize(torch.randn(2, 4), dim=-1)), old.select(torch.tensor([3, 1]))
    assert longer.residual_dropout == chosen.residual_dropout == 0.4
    assert longer.select(torch.tensor([6])).residual_dropout == 0.4
    longer.residual_dropout = 0.1
    assert old.residual_dropout == 0.4
