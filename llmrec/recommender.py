"""`Recommender`: the face that users import. Load a saved folder, recommend, score."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import torch
from peft import PeftModel
from torch import Tensor

from llmrec.checkpoints import Checkpoint
from llmrec.configuration import RecommenderConfig, read_json
from llmrec.data.catalog import Catalog
from llmrec.data.interactions import catalog_from
from llmrec.data.live_catalog import LiveCatalog, frozen
from llmrec.data.processes import Lock, check_tables_work
from llmrec.formatting import printable
from llmrec.hub.assembly import assemble, lora_settings
from llmrec.hub.card import read_card
from llmrec.hub.checks import check_base_name, check_folder
from llmrec.hub.data_sets import check_redistribution
from llmrec.hub.folder import DATA_MANIFEST, FILES, read_records, save_folder
from llmrec.hub.loading import MERGED, base_checkpoint, load_model
from llmrec.hub.names import PROBE
from llmrec.hub.probe import circumstances, make_probe, replay
from llmrec.hub.repository import fetch_folder, push_folder
from llmrec.hub.settings import ModelArguments
from llmrec.models.adapter import inner
from llmrec.models.candidate_heads import CandidateHead, head_classes
from llmrec.models.memory import Memory
from llmrec.models.merging import merge_adapter
from llmrec.models.modeling import RecModel
from llmrec.models.sharing import shared_copy, state_of
from llmrec.ranking.candidates import CandidateScorer
from llmrec.ranking.cascade import CascadeScorer
from llmrec.ranking.changed_items import changed_table
from llmrec.ranking.dual import DualScorer
from llmrec.ranking.open_history import Candidate, OpenHistory
from llmrec.ranking.ranks import top_k
from llmrec.ranking.snapshot import Snapshot
from llmrec.storage import read_whole
from llmrec.text.processor import Processor
from llmrec.text.request import Event, Moment, NewItems, Request
from llmrec.text.serializer import Serializer
from llmrec.untrusted import refusals, regular_files

if TYPE_CHECKING:
    from peft import LoraConfig

    from llmrec.data.interactions import Frame

NUM_CANDIDATES = 100
"""Items that the dual head proposes to a candidate head, unless told otherwise."""


@dataclass(frozen=True)
class Recommendation:
    """One recommended item.

    Attributes:
        item_id: the item.
        score: the logit c(u) . c(i) / tau + bias, popularity in the bias (`ItemTable`); of a candidate head where there
            is one. Higher is better.
        rank: 1 for the best.
        text: the item's text attributes.
    """

    item_id: str
    score: float
    rank: int
    text: dict[str, str] = field(default_factory=dict)


class Recommender:
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

    @classmethod
    def from_backbone(
        cls,
        checkpoint: str | os.PathLike,
        items: Catalog | Frame,
        peft_config: LoraConfig | None = None,
        *,
        template: str = "default",
        head: str | type[CandidateHead] = "dual",
        has_clock: bool = True,
        device: str | torch.device | None = None,
        **settings: Any,
    ) -> Recommender:
        """Return a recommender that was not trained: it ranks by the frozen embeddings of the items' texts, whitened.

        Args:
            checkpoint: Hub name or folder of a BERT- or GPT-style checkpoint.
            items: what to rank, a frame or dicts: an id and text attributes; `PreparedData.items`.
            peft_config: LoRA to train: its r, lora_alpha, lora_dropout and target_modules; None takes the defaults.
            template: prompt template, by name or file.
            head: `dual`; or with it `cross` or `verbalizer`, or a `CandidateHead` of your own, which have learned
                nothing before training.
            has_clock: whether histories come with times.
            device: where to compute; None takes a GPU if there is one.
            **settings: further ones of `llmrec.hub.settings.ModelArguments`, such as max_tokens.

        Raises:
            FileNotFoundError: if there is no such checkpoint or template.
            ValueError: if the items have no text, or a setting is refused.
        """
        if peft_config is not None:
            settings = lora_settings(peft_config) | settings
        own = None if isinstance(head, str) else head_classes([head])[head.__name__]
        kind = head if isinstance(head, str) else head.__name__
        arguments = ModelArguments(base_model=os.fspath(checkpoint), template=template, head=kind, **settings)
        catalog = items if isinstance(items, Catalog) else catalog_from(items)
        counts = np.zeros(len(catalog), dtype=np.int64)
        model, processor, config, resolved = assemble(arguments, catalog, has_clock, counts, own_head=own)
        chosen = device if device is not None else "cuda" if torch.cuda.is_available() else "cpu"
        recommender = cls(model.to(chosen).eval(), processor, catalog, config, resolved)
        recommender.assembled = arguments
        return recommender

    @classmethod
    def from_pretrained(
        cls,
        name: str | os.PathLike,
        revision: str | None = None,
        token: str | None = None,
        base_model: str | None = None,
        device: str | torch.device | None = None,
        items: Catalog | pl.DataFrame | Sequence[Mapping[str, str]] | None = None,
        verify: bool = True,
        heads: Sequence[type[CandidateHead]] = (),
    ) -> Recommender:
        """Load a saved folder, or a Hub repository.

        Args:
            name: folder or Hub name.
            revision: branch, tag or commit on the Hub.
            token: Hub token; None uses the one you are logged in with.
            base_model: name or folder of the base checkpoint, if it is not where the adapter says.
            device: where to compute; None takes a GPU if there is one.
            items: what to rank instead of the adapter's own items, a frame or dicts: `item_id` and text attributes.
            heads: candidate heads of your own, one of which the adapter may have.
            verify: whether to replay `probe.json`, and raise if the scores are not those of the adapter that was saved.

        Raises:
            FileNotFoundError: if the folder is no complete adapter or the base checkpoint cannot be found.
            PermissionError: if the Hub wants you to be admitted first.
            ValueError: if a file is damaged or asks for what no adapter needs, the base checkpoint's weights are not
                those the adapter was trained on, or scores are not what they were.
        """
        check_tables_work("Recommender.from_pretrained")
        folder, published = Path(name), not Path(name).exists()
        if published:
            folder = fetch_folder(str(name), revision, token)
        given = items if items is None or isinstance(items, Catalog) else Catalog(pl.DataFrame(items))
        with refusals("adapter", folder):
            regular_files(folder)
        own = head_classes(heads)
        recommender = read_whole(
            folder, FILES, lambda: cls._read(folder, published, token, base_model, device, given, verify, own)
        )
        if given is not None:
            recommender.replace_items(given)
        return recommender

    @classmethod
    def _read(
        cls,
        folder: Path,
        published: bool,
        token: str | None,
        base_model: str | None,
        device: str | torch.device | None,
        given: Catalog | None,
        verify: bool,
        heads: Mapping[str, type[CandidateHead]],
    ) -> Recommender:
        with refusals("adapter", folder):
            check_folder(folder, catalog=given is None)
            config = RecommenderConfig.load(folder)
            if base_model is None and not config.merged:
                check_base_name(config.base_model, published)
            checkpoint = base_checkpoint(folder, config, base_model, token)
            model, processor, catalog = load_model(folder, config, checkpoint, given, heads)
            records, card = read_records(folder), None if published else read_card(folder)
        chosen = device if device is not None else "cuda" if torch.cuda.is_available() else "cpu"
        if base_model is not None:
            config = replace(config, base_revision=checkpoint.revision)
        recommender = cls(model.to(chosen).eval(), processor, catalog, config, checkpoint)
        recommender.records = records
        recommender.card = None if card is None else printable(card, keep_lines=True)
        if verify and (folder / PROBE).is_file():
            with refusals("adapter", folder):
                replay(read_json(folder / PROBE), recommender.open, recommender._circumstances())
        return recommender

    def merge(self) -> Recommender:
        """Return a copy with the adapter merged into the backbone's weights: it needs no base model, nor peft.

        Saved, it is a folder that `AutoModel.from_pretrained` loads. Scores stay the same to a relative 1e-5. It is
        for use, not for training.

        Raises:
            ValueError: if it is merged already, or its weights are not in float32.
        """
        if not isinstance(self.model, PeftModel):
            raise ValueError("the adapter is merged already: there is nothing to merge.")
        config = replace(self.config, merged=True)
        checkpoint = replace(
            self.checkpoint, name=self.checkpoint.name_from(self.checkpoint.path.parent), origin=MERGED
        )
        with self.items.changing:
            merged = Recommender(merge_adapter(self.model), self.processor, self.items.catalog, config, checkpoint)
        merged.records = self.records  # results of these weights alone are saved with them
        return merged

    @property
    def popularity_weight(self) -> float:
        """How much of an item's popularity is in its score, in [0, 2]; may be set. See `RecommenderConfig`."""
        return self.config.popularity_weight

    @popularity_weight.setter
    def popularity_weight(self, weight: float) -> None:
        with self.items.changing, self._swapping:
            self.config = replace(self.config, popularity_weight=weight)
            inner(self.model).rec_items.popularity_weight = weight

    @property
    def text_vectors(self) -> np.ndarray:
        """The frozen embeddings of the items' texts, (N, D) float32 unit rows, in the order of `items.ids`."""
        return inner(self.model).rec_items.text.float().cpu().numpy()

    @property
    def memory(self) -> Memory | None:
        """What is remembered beside what is read, None where nothing is; may be set (`llmrec.models.memory`)."""
        return inner(self.model).rec_items.memory

    @memory.setter
    def memory(self, memory: Memory | None) -> None:
        if memory is not None and len(memory) != len(self.items):
            raise ValueError(
                f"the memory is of {len(memory):,} items, the catalogue has {len(self.items):,}: count it anew."
            )
        with self.items.changing, self._swapping:
            self.config = replace(self.config, memory=None if memory is None else memory.weights)
            inner(self.model).rec_items.memory = memory

    def save_pretrained(self, folder: str | os.PathLike, catalog: bool = True, repo_id: str | None = None) -> None:
        """Write the adapter, the head, the item tables and everything else inference needs to `folder`.

        A process that is killed while it saves leaves the old files or the new ones.

        Args:
            folder: where to write.
            catalog: whether the items go with it, and what was learned of each. Without them the folder is small, and
                loading it asks for `items`, which are then read by their text alone.
            repo_id: name on the Hub that the example of the model card loads; None keeps the one it has.
        """
        check_tables_work("save_pretrained")
        with self.items.changing:  # others recommend meanwhile
            memory = self.config.memory if catalog else None  # it is of known items
            config = replace(self.config, base_model=self.checkpoint.name_from(folder), memory=memory)
            known = self.items.catalog
            probe = make_probe(partial(OpenHistory, self.snapshot()), known, catalog, self._circumstances())
            items = known if catalog else None
            save_folder(folder, self.model, self.processor, items, config, probe, self.records, self.card, repo_id)

    def push_to_hub(
        self,
        repo_id: str,
        private: bool | None = None,
        revision: str | None = None,
        token: str | None = None,
        tag: str | None = None,
        catalog: bool = True,
    ) -> str:
        """Save to a Hub repository, which is made if it is not there, and return the commit.

        Args:
            repo_id: its name, `owner/name`.
            private: whether a new repository is private; None leaves that to the owner's setting.
            revision: branch to push to, made from main if it is not there; main by default.
            token: Hub token; None uses the one you are logged in with.
            tag: name that the commit is given.
            catalog: as in `save_pretrained`.

        Raises:
            PermissionError: if the Hub does not let you.
            ValueError: as `check_pushable`, or if the repository is public and was to be private.
        """
        self.check_pushable(catalog)
        with tempfile.TemporaryDirectory() as folder:
            self.save_pretrained(folder, catalog, repo_id)
            return push_folder(Path(folder), repo_id, private, revision, token, tag)

    def check_pushable(self, catalog: bool = True) -> None:
        """Raise if others could not load the adapter, or may not have its items.

        Raises:
            ValueError: if the base checkpoint is a folder of this machine, or the items may not be given to others.
        """
        if self.checkpoint.origin == "folder":
            raise ValueError(
                f"the base checkpoint {self.checkpoint.name!r} is a folder of this machine; nobody else could load the "
                "adapter.\nPush the base first, and load the adapter with base_model= its Hub name."
            )
        if catalog:
            check_redistribution(self.records.get(DATA_MANIFEST, {}), "the items")

    def _circumstances(self) -> dict[str, Any]:
        return circumstances(self.model, self.config.base_revision, self.config.base_sha256)

    def open(self, history: Sequence[Event]) -> OpenHistory:
        """Read a history once, to score and recommend from it again and again, and to append events to it.

        Raises:
            ValueError: as `recommend`.
        """
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

    @torch.inference_mode()
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
        opened = history if isinstance(history, OpenHistory) else OpenHistory(self.snapshot(), history)
        return opened.score(candidates, now)

    @property
    def version(self) -> Hashable:
        """What changes when weights, adapter, items or popularity weight do: encoded items are worthless then."""
        return self.snapshot().version

    def snapshot(self) -> Snapshot:
        """Return what a request that begins now computes with; the same one as long as nothing changes."""
        held, reads = self._snapshot, self._reads()
        if held is None or not self._is_of_now(held, reads):
            with self._swapping:
                held, reads = self._snapshot, self._reads()
                if held is None or not self._is_of_now(held, reads):
                    model = inner(self.model)
                    self._snapshot = held = Snapshot.of(model, self.processor, self.items.catalog, self.config, reads)
        return held

    def _reads(self) -> Hashable:
        return state_of(inner(self.model)), id(self.processor)

    def _is_of_now(self, held: Snapshot, reads: Hashable) -> bool:
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
        config = replace(self.config, time_embedding=[] if embedding else self.config.time_embedding)
        template = self.processor.serializer.template
        serializer = Serializer(template, has_clock=self.config.has_clock and not words)
        processor = Processor(serializer, self.processor.tokenizer, config)
        with self.items.changing:
            return Recommender(shared_copy(self.model), processor, self.items.catalog, config, self.checkpoint)

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_snapshot": None}  # whoever gets a copy computes its own

    def _encode(self, texts: Sequence[str]) -> Tensor:
        return self.snapshot().encode(texts)


def recommendations(catalog: Catalog, ranked: Sequence[tuple[int, float]]) -> list[Recommendation]:
    """Return items as recommendations, from their (item row, score), best first."""
    return [
        Recommendation(catalog.ids[item], score, rank, catalog.attributes(item))
        for rank, (item, score) in enumerate(ranked, start=1)
    ]


def whole_number(name: str, value: Any) -> int:
    """Return a number of items as int; raise ValueError if it is none."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
        raise ValueError(f"{name}={value!r}: give a whole number of items, at least 1.")
    return int(value)
