"""Every head that an architecture allows trains, saves, loads and recommends; others are refused first."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from small_data import DAY, START, items_frame
from tiny_architectures import REQUIRED, Architecture
from tiny_recommenders import head_settings, rec_model, tiny_recommender

from llmrec.data.catalog import Catalog
from llmrec.models import capabilities
from llmrec.models.capabilities import check_backbone
from llmrec.recommender import Recommender
from llmrec.text.batch import Branch
from llmrec.text.windows import Window

CATALOG = Catalog(items_frame(12))
LENGTH = 6
HISTORY = [{"item_id": f"i{number:02}", "timestamp": START + number * DAY} for number in range(LENGTH)]
NOW = START + 9 * DAY
CANDIDATES = ["i09", "i11", {"title": "red hammer"}]


def heads(architecture: Architecture) -> list[str]:
    """The heads that an architecture allows; `cross` holds a dual head, which stands alone in one of each kind."""
    alone = ["dual"] * (architecture.name in ("BERT", "GPT-2"))
    return [*alone, "cross", *["verbalizer"] * architecture.causal]


KINDS = [(each, head) for each in REQUIRED for head in heads(each)]


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Folders of checkpoints by name, each written once."""
    root, folders = tmp_path_factory.mktemp("architectures"), {}

    def get(architecture: Architecture):
        if architecture.name not in folders:
            folders[architecture.name] = architecture.save(root / str(len(folders)))
        return folders[architecture.name]

    return get


def one_step(recommender: Recommender) -> float:
    """Take a step of descent on the loss of next items, and of a candidate behind the last event; return the loss."""
    processor, model = recommender.processor, rec_model(recommender)
    items, times = np.arange(LENGTH), START + np.arange(LENGTH) * DAY
    row = processor.read(items, processor.blocks(items, times, CATALOG), Window(0, 0, LENGTH), times)
    row = processor.ask(row, times, items, times + DAY)
    if recommender.config.head != "dual":
        blocks = [processor.candidate_block(CATALOG.attributes(item)) for item in (6, 9)]
        branches = [Branch(item, block, LENGTH - 1) for item, block in zip((6, 9), blocks, strict=True)]
        row = replace(row, branches=branches)
    trained = [weight for weight in recommender.model.parameters() if weight.requires_grad]
    output = recommender.model.train()(**processor.batch([row]))
    scores = output.states[0] @ output.embeddings.T * output.scale
    loss = torch.nn.functional.cross_entropy(scores, torch.arange(1, LENGTH + 1))
    if output.candidate_scores is not None:
        loss = loss + torch.nn.functional.cross_entropy(output.candidate_scores, torch.tensor([0]))
    loss.backward()
    assert any(weight.grad is not None and weight.grad.any() for weight in trained)
    with torch.no_grad():
        for weight in trained:
            if weight.grad is not None:
                weight -= 0.1 * weight.grad.sign()
                weight.grad = None
    model.eval()
    return loss.item()


@pytest.mark.parametrize(("architecture", "head"), KINDS, ids=[f"{each.name}-{head}" for each, head in KINDS])
def test_a_head_trains_saves_loads_and_recommends(saved, tmp_path, architecture, head):
    settings = {"head": head} if head != "verbalizer" else head_settings(head, tmp_path)
    recommender = tiny_recommender(saved(architecture), CATALOG, time_embedding=["all"], hybrid=True, **settings)
    first = one_step(recommender)
    assert one_step(recommender) != first
    scores = recommender.score(HISTORY, CANDIDATES, now=NOW)
    recommender.save_pretrained(tmp_path / "saved")
    recommender = Recommender.from_pretrained(tmp_path / "saved")
    found = recommender.score(HISTORY, CANDIDATES, now=NOW)
    np.testing.assert_allclose(found, scores, rtol=0, atol=1e-4 * np.std(scores))
    best = recommender.recommend(HISTORY, k=3, now=NOW)
    assert len(best) == 3
    opened = recommender.open(HISTORY[:2])
    for event in HISTORY[2:]:
        opened.append(event)
    again = recommender.recommend(opened, k=3, now=NOW)
    assert [each.item_id for each in again] == [each.item_id for each in best]


def without_branches(monkeypatch):
    """Take away what lets MPNet read branches: the correction of its bias, which counts tokens of the row."""
    monkeypatch.setattr(capabilities, "may_correct_bias", lambda _: False)


@pytest.mark.parametrize("asked", [{"head": "cross"}, {"head": "dual", "time_embedding": ["all"]}])
def test_what_needs_branches_is_refused_where_there_are_none(saved, monkeypatch, asked):
    without_branches(monkeypatch)
    folder = saved(next(each for each in REQUIRED if each.name == "MPNet"))
    with pytest.raises(ValueError, match=r"\(mpnet\) reads no branches, for a branch read beside others differs"):
        tiny_recommender(folder, CATALOG, **asked)


def test_a_dual_head_needs_no_branches(saved, monkeypatch, tmp_path):
    without_branches(monkeypatch)
    recommender = tiny_recommender(saved(next(each for each in REQUIRED if each.name == "MPNet")), CATALOG)
    assert check_backbone(rec_model(recommender).backbone, "x").level == "no branches"
    one_step(recommender)
    recommender.save_pretrained(tmp_path)
    assert len(Recommender.from_pretrained(tmp_path).recommend(HISTORY, k=3)) == 3


def test_a_saved_head_that_needs_branches_is_refused_at_load(saved, monkeypatch, tmp_path):
    folder = saved(next(each for each in REQUIRED if each.name == "MPNet"))
    tiny_recommender(folder, CATALOG, head="cross").save_pretrained(tmp_path)
    without_branches(monkeypatch)
    with pytest.raises(ValueError, match=r"head='cross': .*reads no branches"):
        Recommender.from_pretrained(tmp_path)


@pytest.mark.parametrize("name", ["BERT", "EmbeddingGemma"])
def test_a_verbalizer_is_refused_where_a_row_is_read_in_both_directions(saved, tmp_path, name):
    folder = saved(next(each for each in REQUIRED if each.name == name))
    with pytest.raises(ValueError, match="is an encoder and predicts no next token"):
        tiny_recommender(folder, CATALOG, **head_settings("verbalizer", tmp_path))
