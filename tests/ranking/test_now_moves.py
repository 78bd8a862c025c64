"""An open history is asked at one moment after the other: as if it had been read anew for each, and never is."""

from __future__ import annotations

import pytest
from small_data import DAY, START, items_frame
from tiny_recommenders import randomise, tiny_recommender

from llmrec.data.catalog import Catalog
from llmrec.models.reading import Reading
from llmrec.recommender import Recommender
from llmrec.text.template import TEMPLATE_NAME, PromptTemplate

CATALOG = Catalog(items_frame())
IDS = list(CATALOG.ids)
KINDS = [
    *((family, head) for family in ("bert", "roberta", "llama", "gpt2") for head in ("dual", "cross")),
    ("gpt2", "verbalizer"),
]
TIMED = PromptTemplate(
    event="{title}[, {gap}][, {weekday} {daypart}]",
    item="{title}",
    query="now[: {gap}][, {weekday} {daypart}]",
    answers=("a", "b"),
)


@pytest.fixture(params=KINDS, ids="-".join)
def recommender(request, checkpoints, tmp_path) -> Recommender:
    """Reads time in words and by its embedding; nothing at its starting value."""
    family, head = request.param
    TIMED.save(tmp_path)
    settings = {"head": head, "template": str(tmp_path / TEMPLATE_NAME), "time_embedding": ["all"]}
    lengths = {"max_tokens": 160, "max_vector_events": 3}
    return randomise(tiny_recommender(checkpoints[family], CATALOG, **settings, **lengths))


def test_as_now_moves_scores_are_those_of_a_history_read_anew(recommender, monkeypatch):
    history = [{"item_id": IDS[(7 * n) % len(IDS)], "timestamp": START + n * n * DAY} for n in range(10)]
    opened, reads = recommender.open(history[:8]), []
    original = Reading._run
    monkeypatch.setattr(Reading, "_run", lambda self, ids, *rest: reads.append(self) or original(self, ids, *rest))
    found = {}
    for length in (8, 9, 10):  # two events come, and now moves on, far on, and back
        for wait in (0, 30 * DAY + 7 * 3_600, 800 * DAY, 3 * DAY, 0):
            now = history[length - 1]["timestamp"] + wait
            reads.clear()
            scores = opened.score(IDS, now=now)
            ranked = recommender.recommend(opened, k=5, now=now)
            assert not reads
            assert scores == pytest.approx(recommender.score(history[:length], IDS, now=now), abs=5e-4)
            assert reads
            anew = recommender.recommend(history[:length], k=5, now=now)
            assert [one.score for one in ranked] == pytest.approx([one.score for one in anew], abs=5e-4)
            found.setdefault(length, []).append(scores)
        if length < 10:
            opened.append(history[length])
    for first, _, later, _, again in found.values():
        assert first == again
        # A verbalizer's score is what its candidate's block has read, and that is never told of now.
        assert (first == later) if recommender.config.head == "verbalizer" else first != pytest.approx(later, abs=1e-2)
