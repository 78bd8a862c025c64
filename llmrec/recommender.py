"""`Recommender`: the face that users import. It recommends and scores; `Pretrained` loads and saves it."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from llmrec.checkpoints import Checkpoint
from llmrec.configuration import RecommenderConfig
from llmrec.data.catalog import Catalog
from llmrec.data.live_catalog import LiveCatalog, frozen
from llmrec.data.processes import Lock, check_tables_work
from llmrec.hub.pretrained import Pretrained
from llmrec.hub.settings import ModelArguments
from llmrec.ranking.recommendation import Recommendation, recommendations, whole_number
from llmrec.text.request import Event, Moment, NewItems, Request
from llmrec.text.serializer import Serializer

if TYPE_CHECKING:
    from peft import PeftModel
    from torch import Tensor

    from llmrec.models.memory import Memory
    from llmrec.models.modeling import RecModel
    from llmrec.ranking.cascade import CascadeScorer
    from llmrec.ranking.dual import DualScorer
    from llmrec.ranking.open_history import Candidate, OpenHistory
    from llmrec.ranking.snapshot import Snapshot
    from llmrec.text.processor import Processor


if TYPE_CHECKING:
    pass

NUM_CANDIDATES = 100
"""Items that the dual head proposes to a candidate head, unless told otherwise."""


class Recommender(Pretrained):
    """A language model that reads a history and scores items.

    Attributes:
        items: the catalogue: `items.ids`, `len(items)`, `item_id in items`, `items.index(item_id)`; it changes by
            `items.add`, `items.update` and `items.remove` (`LiveCatalog`).
        model: the adapted `RecModel`; peft's wrapper stands around it unless the adapter was merged.
        config: what defines this recommender.
        records: JSON objects that are saved with it, by file name: of the data, the training, the evaluation.
        assembled: what it was assembled with, None where it was loaded.
        card: text of the model card of the folder it was loaded from, if there is one.
    """

    def __init__(
        self,
        model: PeftModel | RecModel,
        processor: Processor,
        items: Catalog,
        config: RecommenderConfig,
        checkpoint: Checkpoint,
    ) -> None:
        self.model = model
        self.processor = processor
        self.items = LiveCatalog(items, self.replace_items)
        self.config = config
        self.checkpoint = checkpoint
        self.records: dict[str, dict[str, Any]] = {}
        self.card: str | None = None
        self.assembled: ModelArguments | None = None
        self._snapshot: Snapshot | None = None
        self._swapping = Lock()

    @property
    def popularity_weight(self) -> float:
        """How much of an item's popularity is in its score, in [0, 2]; may be set. See `RecommenderConfig`."""
        return self.config.popularity_weight

    @popularity_weight.setter
    def popularity_weight(self, weight: float) -> None:
        from llmrec.models.adapter import inner

        with self.items.changing, self._swapping:
            self.config = replace(self.config, popularity_weight=weight)
            inner(self.model).rec_items.popularity_weight = weight

    @property
    def text_vectors(self) -> np.ndarray:
        """The frozen embeddings of the items' texts, (N, D) float32 unit rows, in the order of `items.ids`."""
        from llmrec.models.adapter import inner

        return inner(self.model).rec_items.text.float().cpu().numpy()

    @property
    def memory(self) -> Memory | None:
        """What is remembered beside what is read, None where nothing is; may be set (`llmrec.models.memory`)."""
        from llmrec.models.adapter import inner

        return inner(self.model).rec_items.memory

    @memory.setter
    def memory(self, memory: Memory | None) -> None:
        from llmrec.models.adapter import inner

        if memory is not None and len(memory) != len(self.items):
            raise ValueError(
                f"the memory is of {len(memory):,} items, the catalogue has {len(self.items):,}: count it anew."
            )
        with self.items.changing, self._swapping:
            self.config = replace(self.config, memory=None if memory is None else memory.weights)
            inner(self.model).rec_items.memory = memory

    def open(self, history: Sequence[Event]) -> OpenHistory:
        """Read a history once, to score and recommend from it again and again, and to append events to it.

        Raises:
            ValueError: as `recommend`.
        """
        from llmrec.ranking.open_history import OpenHistory

        return OpenHistory(self.snapshot(), history, self.snapshot)

    def recommend(
        self,
        history: Sequence[Event] | OpenHistory,
        k: int = 10,
        exclude_seen: bool | None = None,
        num_candidates: int = NUM_CANDIDATES,
        now: Moment | None = None,
        proposer: Recommender | None = None,
    ) -> list[Recommendation]:
        """Return the `k` best catalogue items for one history, best first.

        Args:
            history: events, oldest first; known items by `item_id`, unknown ones by their text fields. Or one that was
                opened (`open`).
            k: number of items.
            exclude_seen: whether items of the history are left out; None takes what the adapter was trained for
                (`RecommenderConfig.mask_seen`).
            num_candidates: items that the dual head proposes for a candidate head to rank, at least `k`; without a
                candidate head it means nothing.
            now: when it is asked, in seconds, as an ISO date or a datetime, for recommenders that read time; the time
                of the last event by default.
            proposer: another recommender of the same catalogue whose dual head proposes, in place of this one's; it
                reads the history for itself.

        Raises:
            ValueError: if the history is empty, out of order, or has an event that is neither known nor has text; or
                now is before its last event; or as `check_proposer`.
        """
        from llmrec.ranking.open_history import OpenHistory

        if not isinstance(history, OpenHistory):
            return self.recommend_batch([history], k, exclude_seen, num_candidates, [now], proposer)[0]
        k, num_candidates = whole_number("k", k), whole_number("num_candidates", num_candidates)
        source = None
        if proposer is not None:
            source = proposer.snapshot()
            self._check_proposer(history.snapshot.catalog, source.catalog)
        ranked = history.recommend(k, self._masks(exclude_seen), num_candidates, now, source)
        return recommendations(history.snapshot.catalog, ranked)

    def check_history(self, history: Sequence[Event], now: Moment | None = None) -> None:
        """Raise what `recommend` would raise for this history, without reading it."""
        Request(self.items.catalog, history, now=now)

    def recommend_batch(
        self,
        histories: Sequence[Sequence[Event]],
        k: int = 10,
        exclude_seen: bool | None = None,
        num_candidates: int = NUM_CANDIDATES,
        now: Sequence[Moment | None] | None = None,
        proposer: Recommender | None = None,
    ) -> list[list[Recommendation]]:
        """Return the `k` best catalogue items for each history, asked at a moment of its own; see `recommend`."""
        import torch

        from llmrec.ranking.open_history import OpenHistory
        from llmrec.ranking.ranks import top_k

        with torch.inference_mode():
            k, num_candidates = whole_number("k", k), whole_number("num_candidates", num_candidates)
            snapshot, source, new = self.snapshot(), None, NewItems()
            exclude = self._masks(exclude_seen)
            if proposer is not None:
                source = proposer.snapshot()
                self._check_proposer(snapshot.catalog, source.catalog)
            asked = list(zip(histories, [None] * len(histories) if now is None else now, strict=True))
            # all are checked before any work
            requests = [Request(snapshot.catalog, history, new=new, now=moment) for history, moment in asked]
            if self.config.head != "dual":
                opened = ((OpenHistory(snapshot, history), moment) for history, moment in asked)
                found = [one.recommend(k, exclude, num_candidates, moment, source) for one, moment in opened]
                return [recommendations(snapshot.catalog, ranked) for ranked in found]
            results = []
            for request, state in zip(requests, snapshot.states(requests, new) if requests else [], strict=True):
                scores = snapshot.scores(state[None], [request.items])
                seen = np.unique(request.items[request.items < len(snapshot.catalog)])
                best = top_k(scores, k, [seen] if exclude else None)[0]
                ranked = [(int(item), float(scores[0, item])) for item in best if item >= 0]
                results.append(recommendations(snapshot.catalog, ranked))
            return results

    def _masks(self, asked: bool | None) -> bool:
        """Return whether items of the history leave a ranking: as asked, or as the adapter was trained."""
        return self.config.mask_seen if asked is None else asked

    def score(
        self,
        history: Sequence[Event] | OpenHistory,
        candidates: Sequence[Candidate],
        now: Moment | None = None,
    ) -> list[float]:
        """Score candidates for one history: item ids, or dicts of text for items the catalogue lacks.

        Neither their order nor what stands beside them matters; one given twice is scored twice. `now` is as in
        `recommend`.

        Returns:
            One logit per candidate, in their order; see `Recommendation.score`.

        Raises:
            ValueError: if a candidate is neither known nor has text, or has more tokens than a candidate may; or as in
                `recommend`.
        """
        from llmrec.ranking.open_history import OpenHistory

        opened = history if isinstance(history, OpenHistory) else OpenHistory(self.snapshot(), history)
        return opened.score(candidates, now)

    @property
    def version(self) -> Hashable:
        """What changes when weights, adapter, items or popularity weight do: encoded items are worthless then."""
        return self.snapshot().version

    def snapshot(self) -> Snapshot:
        """Return what a request that begins now computes with; the same one as long as nothing changes."""
        from llmrec.models.adapter import inner
        from llmrec.ranking.snapshot import Snapshot

        held, reads = self._snapshot, self._reads()
        if held is None or not self._is_of_now(held, reads):
            with self._swapping:
                held, reads = self._snapshot, self._reads()
                if held is None or not self._is_of_now(held, reads):
                    model = inner(self.model)
                    self._snapshot = held = Snapshot.of(model, self.processor, self.items.catalog, self.config, reads)
        return held

    def _reads(self) -> Hashable:
        from llmrec.models.adapter import inner
        from llmrec.models.sharing import state_of

        return state_of(inner(self.model)), id(self.processor)

    def _is_of_now(self, held: Snapshot, reads: Hashable) -> bool:
        from llmrec.models.adapter import inner

        weight = inner(self.model).rec_items.popularity_weight
        return held.reads == reads and held.popularity_weight == weight and held.config is self.config

    def replace_items(self, catalog: Catalog, reworded: Collection[str] = ()) -> None:
        """Rank the items of another catalogue from now on; open histories of the old one say so when they are used.

        An item whose id and text are known keeps all that was learned of it; any other is read by its text alone, and
        only such texts are encoded.

        Args:
            catalog: the new items; those of the old one that it lacks are forgotten.
            reworded: ids of known items that are the same under other words: what was learned of them stays.
        """
        import torch

        from llmrec.models.adapter import inner
        from llmrec.ranking.changed_items import changed_table

        check_tables_work("replace_items")
        catalog = frozen(catalog)
        with self.items.changing:
            model, known = inner(self.model), self.items.catalog
            if catalog.frame.equals(known.frame):
                return
            with torch.inference_mode(mode=False):  # tensors of inference mode count no changes
                write, encode = self.processor.item_text, self._encode
                table = changed_table(model.rec_items, known, catalog, write, encode, reworded)
            with self._swapping:  # requests begin before both or after both
                model.rec_items = table
                self.items.hold(catalog)
                self._snapshot = None

    def scorer(
        self,
        batch_size: int = 32,
        shard: tuple[int, int] = (0, 1),
        progress: bool = False,
        num_candidates: int | None = 0,
        mask_seen: bool | None = None,
        reading: bool = True,
        proposer: Recommender | None = None,
    ) -> DualScorer | CascadeScorer:
        """Return what the evaluator asks for catalogue scores.

        Args:
            batch_size: histories read at once.
            shard: (index, count) of this process.
            progress: whether to show a progress bar.
            num_candidates: items that the candidate head ranks: 0 leaves all to the dual head, None takes the whole
                catalogue.
            mask_seen: whether items of the history are kept out of them; None takes what the adapter was trained for.
            reading: whether the language model reads the histories. Without it nothing but the content path of the dual
                head ranks: the gate of its language model's share is closed, and no candidate reads.
            proposer: whose dual head proposes, in place of this one's; see `recommend`.

        Raises:
            ValueError: as `check_proposer`.
        """
        from llmrec.ranking.candidates import CandidateScorer
        from llmrec.ranking.cascade import CascadeScorer
        from llmrec.ranking.dual import DualScorer

        own = self.snapshot()
        source = own if proposer is None else proposer.snapshot()
        if proposer is not None:
            self._check_proposer(own.catalog, source.catalog)
        dual = DualScorer(source.model, source.processor, source.catalog, batch_size, shard, progress, reading)
        if num_candidates == 0 or not reading:
            return dual
        ranker = CandidateScorer(own.model, own.processor, own.catalog, progress=progress and num_candidates is None)
        return CascadeScorer(dual, ranker, num_candidates, self._masks(mask_seen))

    def check_proposer(self, proposer: Recommender) -> None:
        """Raise ValueError unless `proposer` may propose what this one's candidate head ranks: the same catalogue."""
        self._check_proposer(self.items.catalog, proposer.items.catalog)

    def _check_proposer(self, own: Catalog, other: Catalog) -> None:
        if self.config.head == "dual":
            raise ValueError(
                "a proposer needs a candidate head that ranks what it proposes; this adapter has a dual head alone:\n"
                "leave the proposer out, or train with --head cross."
            )
        if other.ids != own.ids:
            raise ValueError(
                f"the proposer ranks another catalogue ({len(other):,} items) than this adapter "
                f"({len(own):,}):\ngive it the same items first, with proposer.replace_items(recommender.items)."
            )

    def without_time(self, words: bool = True, embedding: bool = True) -> Recommender:
        """Return this very model where it reads less: no words for times and now, no embedding of them, or neither.

        It was trained with both, so that this says what it makes of them, not what one trained without would do.
        """
        from llmrec.models.sharing import shared_copy
        from llmrec.text.processor import Processor

        config = replace(self.config, time_embedding=[] if embedding else self.config.time_embedding)
        template = self.processor.serializer.template
        serializer = Serializer(template, has_clock=self.config.has_clock and not words)
        processor = Processor(serializer, self.processor.tokenizer, config)
        with self.items.changing:
            return Recommender(shared_copy(self.model), processor, self.items.catalog, config, self.checkpoint)

    def without_memory(self) -> Recommender:
        """Return this very model with nothing remembered beside what is read."""
        plain = self.without_time(words=False, embedding=False)
        plain.memory = None
        return plain

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_snapshot": None}  # whoever gets a copy computes its own

    def _encode(self, texts: Sequence[str]) -> Tensor:
        return self.snapshot().encode(texts)
