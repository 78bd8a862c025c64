"""A baseline of one's own: python scripts/examples/custom_baseline.py [DATA_DIR|shop].

One class; validation chooses among the settings of its grid.
"""

from __future__ import annotations

import numpy as np
from made_up import data_of_the_command_line

from llmrec import Baseline, Cases, PreparedData, baselines, evaluate


class MarkovChain(Baseline):
    """What followed the last item in training, smoothed by popularity."""

    name = "markov_chain"
    grid = ({"smoothing": 0.01}, {"smoothing": 0.1}, {"smoothing": 1.0})

    def __init__(self, smoothing: float) -> None:
        self.smoothing = smoothing

    def fit(self, data: PreparedData) -> MarkovChain:
        self.follows = np.zeros((len(data.items), len(data.items)), dtype=np.float32)
        for items in data.train["item_id"]:
            rows = [data.items.index(item) for item in items]
            np.add.at(self.follows, (rows[:-1], rows[1:]), 1)
        return self

    def scores(self, cases: Cases, numbers: np.ndarray) -> np.ndarray:
        last = [cases.history(number)[-1] for number in numbers]
        return self.follows[last] + self.smoothing * self.follows.sum(0)


data = data_of_the_command_line()
print(evaluate(baselines.fit(data, ["popularity", "item_knn", MarkovChain]), data.test, data=data))
