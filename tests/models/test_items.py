from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from llmrec.models.items import ItemTable


def table(num_items: int = 5, hybrid: bool = True) -> ItemTable:
    torch.manual_seed(0)
    made = ItemTable(F.normalize(torch.randn(num_items, 4), dim=-1), hybrid)
    with torch.no_grad():
        for weight in made.parameters():
            weight.normal_()
    return made


def test_everything_learned_starts_at_zero():
    made = ItemTable(torch.eye(3), hybrid=True)
    text, enters, leaves = made()
    assert torch.equal(text, torch.eye(3))
    assert not enters.any() and not leaves.any() and not made.bias.any()
    assert {name for name, _ in made.named_parameters()} == {"input_residual", "output_residual", "bias"}


def test_text_alone_learns_nothing():
    made = ItemTable(torch.eye(3), hybrid=False)
    assert list(made.parameters()) == []
    assert made()[1:] == (None, None)
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


@pytest.mark.parametrize("hybrid", [True, False])
@pytest.mark.parametrize("rows", [[4, 0, 2], [1, 1], []])
def test_selected_rows_are_those_rows(hybrid, rows):
    old = table(hybrid=hybrid)
    chosen = old.select(torch.tensor(rows, dtype=torch.long))
    assert torch.equal(chosen.text, old.text[rows])
    for before, after in zip(old.parameters(), chosen.parameters(), strict=True):
        assert torch.equal(after, before[rows])


def test_dropout_takes_whole_items_from_input_and_output_alike_and_only_in_training():
    made = table(2_000)
    made.residual_dropout = 0.3
    torch.manual_seed(1)
    _, enters, leaves = made.train()()
    dropped = (enters == 0).all(1)
    assert torch.equal(dropped, (leaves == 0).all(1))
    assert torch.equal(enters[~dropped], made.input_residual[~dropped])
    assert torch.equal(leaves[~dropped], made.output_residual[~dropped])
    assert 0.25 < dropped.float().mean() < 0.35
    other = (made()[1] == 0).all(1)
    assert not torch.equal(dropped, other)  # drawn anew at every step
    _, enters, leaves = made.eval()()
    assert torch.equal(enters, made.input_residual) and torch.equal(leaves, made.output_residual)


def test_a_dropped_item_gets_no_gradient():
    made = table(50)
    made.residual_dropout = 0.5
    _, enters, leaves = made.train()()
    (enters.sum() + leaves.sum()).backward()
    dropped = (enters == 0).all(1)
    assert dropped.any() and not dropped.all()
    assert not made.input_residual.grad[dropped].any() and not made.output_residual.grad[dropped].any()
    assert (made.input_residual.grad[~dropped] == 1).all()
