"""Scores and lists from elsewhere, a metric of one's own: python scripts/examples/evaluate_yours.py [DATA_DIR|shop]."""

from __future__ import annotations

import numpy as np
import polars as pl
from made_up import data_of_the_command_line

from llmrec import Cases, baselines, evaluate


def nearby(cases: Cases, numbers: np.ndarray) -> np.ndarray:
    """Score items by how near their number is to the last one's."""
    last = np.array([cases.history(number)[-1] for number in numbers])
    return -np.abs(np.arange(cases.num_items)[None, :] - last[:, None] - 2).astype(np.float32)


def found_in_first_percent(ranks: np.ndarray, num_items: int) -> np.ndarray:
    """Return 1 where the target is among the first percent of the catalogue."""
    return (ranks <= max(1, num_items // 100)).astype(np.float64)


data = data_of_the_command_line()
popular = pl.Series([item for items in data.train["item_id"] for item in items]).value_counts(sort=True)[:, 0][:10]
users = [data.test.users[user] for user in np.unique(data.test.user)]
lists = pl.DataFrame({"user_id": users}).join(pl.DataFrame({"item_id": popular}).with_row_index("rank", 1), how="cross")
systems = {"a function": nearby, "lists of ten": lists, **baselines.fit(data, ["popularity"])}
print(evaluate(systems, data.test, ["ndcg@10", "mrr", found_in_first_percent], data=data))
