from __future__ import annotations

import numpy as np
import pytest
import torch
from small_data import START, cases_of, items_frame, random_histories
from tiny_recommenders import randomise, rec_model, tiny_recommender

from llmrec.baselines.content import ContentBaseline, spread
from llmrec.data.catalog import Catalog
from llmrec.evaluation.evaluator import evaluate_system
from llmrec.models import modeling
from llmrec.models.modeling import RecModel
from llmrec.recommender import Recommender
from llmrec.text.batch import Pass, collate
from llmrec.text.windows import Window

DAY = 86_400
FAMILIES = ["bert", "llama", "roberta", "gpt2"]
CATALOG = Catalog(items_frame())
N = len(CATALOG)


def history(length: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    return random.integers(N, size=length), START + np.cumsum(random.integers(60, 9 * DAY, size=length))


def whole_pass(recommender: Recommender, items: np.ndarray, times: np.ndarray) -> Pass:
    """The history in one window, whatever the budget."""
    blocks = recommender.processor.blocks(items, times, CATALOG)
    return recommender.processor.read(items, blocks, Window(0, 0, len(items)))


@torch.no_grad()
def states_of(recommender: Recommender, passes: list[Pass], side: str = "right") -> list[torch.Tensor]:
    """User states (L, D) of each pass, read in one batch."""
    processor = recommender.processor
    batch = collate(passes, processor.header, processor.pad_token_id, side)
    states = rec_model(recommender)(**batch).states
    return [row[: len(one.items)] for row, one in zip(states, passes, strict=True)]


@pytest.fixture(scope="module")
def trained(checkpoints):
    """Recommenders with nothing at its starting value, by family, attention and pooling."""
    made: dict[tuple, Recommender] = {}

    def get(family: str, attention: str = "sdpa", pooling: str | None = None) -> Recommender:
        key = family, attention, pooling
        if key not in made:
            settings = {"attn_implementation": attention, "pooling": pooling}
            made[key] = randomise(tiny_recommender(checkpoints[family], CATALOG, **settings))
        return made[key]

    return get


def worst(one: torch.Tensor, other: torch.Tensor) -> float:
    return (one - other).abs().max().item()


@pytest.mark.parametrize("pooling", ["mean", "last"])
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("family", FAMILIES)
def test_later_events_change_no_earlier_state(trained, family, attention, pooling):
    recommender = trained(family, attention, pooling)
    items, times = history(14)
    original = states_of(recommender, [whole_pass(recommender, items, times)])[0]
    for event in (1, 6, 13):
        other_items, other_times = items.copy(), times.copy()
        other_items[event:] = (items[event:] + 7) % N
        other_times[event:] += 400 * DAY
        changed = states_of(recommender, [whole_pass(recommender, other_items, other_times)])[0]
        assert worst(original[:event], changed[:event]) <= 1e-6
        assert worst(original[event], changed[event]) > 1e-2  # the change was seen where it may be
        cut = states_of(recommender, [whole_pass(recommender, items[:event], times[:event])])[0]
        assert worst(original[:event], cut) <= 1e-6


@torch.no_grad()
def test_a_batch_reads_the_same_where_its_own_items_alone_are_embedded(trained):
    model = rec_model(trained("bert"))
    rows = [whole_pass(trained("bert"), *history(length, seed=length)) for length in (9, 4)]
    batch = dict(trained("bert").processor.batch(rows))
    whole, own = model(**batch), model(**batch, catalogue=False)
    items = np.unique(np.concatenate([row.items for row in rows]))
    assert len(own.embeddings) == len(own.bias) == len({*items, 0}) < N  # 0 stands for padding, too
    for row, one in enumerate(rows):
        assert worst(whole.states[row, : len(one.items)], own.states[row, : len(one.items)]) <= 1e-6


def test_rows_asked_for_are_embedded_first_and_change_neither_scores_nor_gradients(trained):
    model = rec_model(trained("bert"))
    rows = [whole_pass(trained("bert"), *history(length, seed=length)) for length in (9, 4)]
    batch = dict(trained("bert").processor.batch(rows))
    asked = torch.tensor([5, 3, 0])
    learned = [model.rec_items.output_residual, model.rec_items.bias, model.rec_head.item_projection]
    whole, some = model(**batch), model(**batch, catalogue=asked)
    held = {int(item) for row in rows for item in row.items} | {0}
    assert len(some.embeddings) == len(some.bias) == len(held | {*asked.tolist()})
    assert worst(some.embeddings[:3], whole.embeddings[asked]) <= 1e-6

    def scores(output, items):
        return output.states[0] @ output.embeddings[items].T * output.scale + output.bias[items]

    assert worst(scores(some, slice(3)), scores(whole, asked)) <= 1e-4
    for found, expected in zip(
        torch.autograd.grad(scores(some, slice(3)).logsumexp(-1).sum(), learned),
        torch.autograd.grad(scores(whole, asked).logsumexp(-1).sum(), learned),
        strict=True,
    ):
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("family", ["bert", "llama"])
def test_the_leak_test_can_fail(trained, family, monkeypatch):
    recommender = trained(family)

    def everyone_sees_everyone(block, causal, branch=None):
        return torch.zeros(block.shape[0], 1, block.shape[1], block.shape[1])

    monkeypatch.setattr(modeling, "attention_mask", everyone_sees_everyone)
    items, times = history(6)
    other = np.append(items[:5], (items[5] + 7) % N)
    one, two = (states_of(recommender, [whole_pass(recommender, row, times)])[0] for row in (items, other))
    assert worst(one[:5], two[:5]) > 1e-3


@pytest.mark.parametrize("family", ["bert", "llama"])
def test_the_last_event_of_the_history_is_read(trained, family):
    recommender = trained(family)
    items, times = history(6)
    other_times = times.copy()
    other_times[-1] += 900 * DAY  # the same item, at another time: only the words tell
    one, two = (states_of(recommender, [whole_pass(recommender, items, at)])[0] for at in (times, other_times))
    assert worst(one[:5], two[:5]) <= 1e-6
    assert worst(one[5], two[5]) > 1e-4


@pytest.mark.parametrize("family", FAMILIES)
def test_one_pass_over_50_events_equals_50_passes(trained, family):
    recommender = trained(family)
    items, times = history(50)
    together = states_of(recommender, [whole_pass(recommender, items, times)])[0]
    for length in range(1, 51):
        alone = states_of(recommender, [whole_pass(recommender, items[:length], times[:length])])[0]
        assert worst(together[length - 1], alone[-1]) <= 1e-4, length


@pytest.mark.parametrize("family", FAMILIES)
def test_padding_and_the_rest_of_the_batch_change_no_state(trained, family):
    recommender = trained(family)
    passes = [whole_pass(recommender, *history(length, seed=length)) for length in (1, 9, 4, 17)]
    alone = [states_of(recommender, [one])[0] for one in passes]
    for side in ("right", "left"):
        for order in (range(4), [3, 1, 0, 2]):
            together = states_of(recommender, [passes[index] for index in order], side)
            for index, states in zip(order, together, strict=True):
                assert worst(states, alone[index]) <= 2e-6


@pytest.mark.parametrize("family", ["bert", "llama"])
def test_events_that_stand_as_vectors_are_read(trained, family):
    recommender = trained(family)
    items, times = history(8)
    blocks = recommender.processor.blocks(items, times, CATALOG)
    read = recommender.processor.read(items, blocks, Window(4, 4, 8))
    assert len(read.items) == 8
    other_items = items.copy()
    other_items[1] = (items[1] + 7) % N
    other = recommender.processor.read(other_items, blocks, Window(4, 4, 8))
    one, two = states_of(recommender, [read, other])
    assert worst(one[:1], two[:1]) <= 1e-6
    assert worst(one[1:], two[1:]) > 1e-3


@pytest.fixture(scope="module")
def fresh(checkpoints):
    return {family: tiny_recommender(checkpoints[family], CATALOG) for family in FAMILIES}


@pytest.mark.parametrize("family", FAMILIES)
def test_step_0_reads_exactly_what_the_base_model_reads(fresh, family, monkeypatch):
    recommender = fresh[family]
    seen = {}
    run = modeling.run_backbone

    def spy(backbone, embeddings, positions, mask):
        seen["embeddings"] = embeddings
        return run(backbone, embeddings, positions, mask)

    monkeypatch.setattr(modeling, "run_backbone", spy)
    passes = [whole_pass(recommender, *history(length)) for length in (3, 8)]
    batch = recommender.processor.batch(passes)
    states_of(recommender, passes)
    expected = rec_model(recommender).backbone.get_input_embeddings()(batch["input_ids"])
    assert torch.equal(seen["embeddings"], expected)


@pytest.mark.parametrize("family", FAMILIES)
def test_step_0_ranks_exactly_as_the_frozen_text_baseline(fresh, family):
    recommender = fresh[family]
    rows = random_histories(num_users=20, num_items=N, length=8)
    targets = [(user, place) for user, row in enumerate(rows) for place in range(1, len(row))]
    cases = cases_of(rows, targets, N)
    baseline = ContentBaseline(spread(rec_model(recommender).rec_items.text.numpy()))
    for mask_seen in (True, False):
        ours = evaluate_system(recommender.scorer(batch_size=4), cases, mask_seen)
        assert ours.tolist() == evaluate_system(baseline, cases, mask_seen).tolist()
    assert len(np.unique(ours)) > 10 and (ours % 1 == 0.5).any()  # there is an order, and twins share places


@pytest.mark.parametrize("family", ["bert", "llama"])
def test_training_moves_the_states_away_from_the_baseline(trained, fresh, family):
    items, times = history(6)
    one, two = (
        states_of(recommender, [whole_pass(recommender, items, times)])[0]
        for recommender in (trained(family), fresh[family])
    )
    assert worst(one, two) > 1e-2


@pytest.mark.parametrize("family", ["bert", "llama"])
def test_the_head_computes_in_float32_under_autocast(trained, family):
    recommender = trained(family)
    model = rec_model(recommender)
    batch = recommender.processor.batch([whole_pass(recommender, *history(9))])
    with torch.no_grad():
        plain = model(**batch)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            mixed = model(**batch)
    assert mixed.states.dtype == mixed.embeddings.dtype == mixed.scale.dtype == mixed.bias.dtype == torch.float32
    assert torch.equal(mixed.embeddings, plain.embeddings)
    assert 1e-5 < worst(mixed.states, plain.states) < 0.2  # the backbone did compute in bfloat16
    torch.testing.assert_close(mixed.states.norm(dim=-1), torch.ones(1, 9))


@pytest.mark.parametrize("family", ["bert", "llama"])
def test_every_trained_weight_gets_a_gradient(trained, family):
    recommender = trained(family)
    batch = recommender.processor.batch([whole_pass(recommender, *history(9))])
    output = rec_model(recommender)(**batch)
    (output.states @ output.embeddings.T * output.scale + output.bias).logsumexp(-1).sum().backward()
    for name, weight in recommender.model.named_parameters():
        if weight.requires_grad:
            assert weight.grad is not None and weight.grad.isfinite().all(), name
            assert weight.grad.any(), name
        else:
            assert weight.grad is None, name
    recommender.model.zero_grad()


def test_gradient_checkpointing_gives_the_same_gradients(checkpoints):
    gradients = []
    for checkpointing in (False, True):
        recommender = randomise(tiny_recommender(checkpoints["llama"], CATALOG))
        recommender.model.train()
        if checkpointing:
            recommender.model.gradient_checkpointing_enable()
        batch = recommender.processor.batch([whole_pass(recommender, *history(6))])
        recommender.model(**batch).states.sum().backward()
        gradients.append({name: w.grad for name, w in recommender.model.named_parameters() if w.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, rtol=1e-3, atol=1e-5, msg=name)


def test_building_the_model_leaves_the_backbone_as_it_was_loaded(checkpoints, fresh):
    from transformers import AutoModel

    saved = AutoModel.from_pretrained(checkpoints["bert"]).state_dict()
    backbone = rec_model(fresh["bert"]).backbone
    compared = 0
    for name, weight in backbone.named_parameters():
        if "lora_" not in name:
            assert torch.equal(weight, saved[name.replace(".base_layer", "")]), name
            compared += 1
    assert compared > 30
    assert isinstance(rec_model(fresh["bert"]), RecModel)
