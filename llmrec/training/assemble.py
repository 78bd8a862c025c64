"""A recommender as training starts from it, and its item projection learned before anything else."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from llmrec.data.catalog import Catalog
from llmrec.hub.assembly import assemble, started_from
from llmrec.hub.settings import ModelArguments
from llmrec.models.adapter import inner
from llmrec.models.item_projection import ItemHistories, learn_item_space, whiten_items
from llmrec.recommender import Recommender


def new_recommender(
    arguments: ModelArguments,
    catalog: Catalog,
    has_clock: bool,
    counts: np.ndarray,
    text: Tensor | None = None,
    likes: tuple[float, np.ndarray] | None = None,
) -> Recommender:
    """Return a fresh recommender; see `llmrec.hub.assembly.assemble`."""
    model, processor, config, checkpoint = assemble(arguments, catalog, has_clock, counts, text, likes)
    recommender = Recommender(model, processor, catalog, config, checkpoint)
    recommender.assembled = arguments
    return recommender


def learn_items(
    recommender: Recommender,
    histories: Sequence[np.ndarray],
    arguments: ModelArguments,
    seed: int,
    mask_seen: bool,
    progress: bool,
) -> float | None:
    """Let item embeddings start where histories put them, unless training goes on from what has learned that of them.

    Args:
        recommender: as `new_recommender` made it with these arguments.
        histories: items of each user's training events, (L,) in order of time.
        arguments: how long, and whether to whiten.
        seed: of the draws.
        mask_seen: whether a ranking leaves items of the history out.
        progress: show a bar.

    Returns:
        The loss that learning ended with, None where there was none: nothing to learn from, or no need.
    """
    model, config = inner(recommender.model), recommender.config
    text, learned_from = model.rec_items.text, ItemHistories.of(histories)
    space = started_from(arguments, recommender.checkpoint)
    known = config.adapted_on is None or config.adapted_on.get("item_epochs")  # also where training itself learned it
    if space is not None and known and space.is_of(text):
        return None
    if not arguments.item_epochs or not learned_from.suffice:
        return None
    loss = learn_item_space(model.rec_head, text, learned_from, arguments.item_epochs, seed, mask_seen, progress)
    if arguments.whiten:
        whiten_items(model.rec_head, text)
    return loss
