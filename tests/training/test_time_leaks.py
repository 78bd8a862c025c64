"""What a trained position knows of the future: when the next event is. By the whole model, on batches of training."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from datasets import Dataset
from small_data import DAY, START, items_frame
from tiny_recommenders import randomise, rec_model, tiny_recommender

from llmrec.data.catalog import Catalog
from llmrec.losses.catalogue import IGNORED
from llmrec.recommender import Recommender
from llmrec.text.template import TEMPLATE_NAME, PromptTemplate
from llmrec.training.dataset import WindowDataset

CATALOG = Catalog(items_frame())
N, LENGTH = len(CATALOG), 16
TIMED = PromptTemplate(
    event="{title}[, {gap}][, {weekday} {daypart}]", item="{title}", query="now[: {gap}][, {weekday} {daypart}]"
)
KINDS = [("bert", ["all"]), ("bert", []), ("llama", ["all"]), ("gpt2", ["all"])]


@torch.no_grad()
def trained_states(recommender: Recommender, items: np.ndarray, times: np.ndarray) -> dict[int, torch.Tensor]:
    """The user state from which each position's target is predicted, by the event that it stands behind."""
    history = {
        "item_id": [[CATALOG.ids[item] for item in items]],
        "timestamp": [times.tolist()],
        "split": [["train"] * len(items)],
    }
    dataset = WindowDataset(Dataset.from_dict({"user_id": ["ann"], **history}), CATALOG, recommender.processor, 0.3)
    assert len(dataset) > 1
    found = {}
    for index in range(len(dataset)):
        example = dataset[index]
        states = rec_model(recommender)(**recommender.processor.batch([example["row"]])).states[0]
        for event in np.flatnonzero(example["labels"] != IGNORED).tolist():
            found[example["row"].offset + event] = states[event]
    assert sorted(found) == list(range(len(items) - 1))
    return found


@pytest.mark.parametrize(("family", "parts"), KINDS)
def test_a_position_knows_when_the_next_event_is_and_nothing_else_of_the_future(checkpoints, tmp_path, family, parts):
    TIMED.save(tmp_path)
    settings = {"template": str(tmp_path / TEMPLATE_NAME), "time_embedding": parts, "max_vector_events": 3}
    recommender = randomise(tiny_recommender(checkpoints[family], CATALOG, max_tokens=160, **settings))
    random = np.random.default_rng(0)
    items, times = random.integers(N, size=LENGTH), START + np.cumsum(random.integers(60, 9 * DAY, size=LENGTH))
    before = trained_states(recommender, items, times)
    for place in (0, 5, 12):  # the event behind which is asked what comes next
        later = np.arange(LENGTH) > place
        other_items = np.where(later, (items + 5) % N, items)
        other_times = times + np.where(np.arange(LENGTH) > place + 1, 400 * DAY + 18_000, 0)
        after = trained_states(recommender, other_items, other_times)
        for earlier in range(place + 1):
            assert (before[earlier] - after[earlier]).abs().max() <= 1e-5
        assert (before[place + 1] - after[place + 1]).abs().max() > 1e-3  # what has happened by then is seen
        moved = trained_states(recommender, items, times + np.where(later, 9 * DAY + 25_200, 0))
        for earlier in range(place):
            assert (before[earlier] - moved[earlier]).abs().max() <= 1e-5
        assert (before[place] - moved[place]).abs().max() > 1e-3  # its own moment is known
