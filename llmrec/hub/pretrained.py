"""`Pretrained`: what makes a recommender of a checkpoint or a saved folder, and saves, merges and pushes it."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import polars as pl

from llmrec.checkpoints import Checkpoint
from llmrec.configuration import RecommenderConfig, read_json
from llmrec.data.catalog import Catalog
from llmrec.data.interactions import catalog_from
from llmrec.data.live_catalog import LiveCatalog
from llmrec.data.processes import check_tables_work
from llmrec.formatting import printable
from llmrec.hub.names import PROBE
from llmrec.hub.settings import ModelArguments
from llmrec.storage import read_whole
from llmrec.text.request import Event
from llmrec.untrusted import refusals, regular_files

if TYPE_CHECKING:
    import torch
    from peft import PeftModel

    from llmrec.models.candidate_heads import CandidateHead
    from llmrec.models.modeling import RecModel
    from llmrec.ranking.open_history import OpenHistory
    from llmrec.ranking.snapshot import Snapshot
    from llmrec.text.processor import Processor


if TYPE_CHECKING:
    from peft import LoraConfig

    from llmrec.data.interactions import Frame


class Pretrained:
    """The half of `Recommender` that loads and saves it; see there for the attributes."""

    if TYPE_CHECKING:
        model: PeftModel | RecModel
        processor: Processor
        items: LiveCatalog
        config: RecommenderConfig
        checkpoint: Checkpoint
        records: dict[str, dict[str, Any]]
        card: str | None
        assembled: ModelArguments | None
        open: Callable[[Sequence[Event]], OpenHistory]
        replace_items: Callable[[Catalog], None]
        snapshot: Callable[[], Snapshot]

        def __init__(
            self,
            model: PeftModel | RecModel,
            processor: Processor,
            items: Catalog,
            config: RecommenderConfig,
            checkpoint: Checkpoint,
        ) -> None: ...

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
    ) -> Self:
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
        import torch

        from llmrec.hub.assembly import assemble, lora_settings
        from llmrec.models.candidate_heads import head_classes

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
    ) -> Self:
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
        from llmrec.hub.folder import FILES
        from llmrec.hub.repository import fetch_folder
        from llmrec.models.candidate_heads import head_classes

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
    ) -> Self:
        import torch

        from llmrec.hub.card import read_card
        from llmrec.hub.checks import check_base_name, check_folder
        from llmrec.hub.folder import read_records
        from llmrec.hub.loading import base_checkpoint, load_model
        from llmrec.hub.probe import replay

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

    def merge(self) -> Self:
        """Return a copy with the adapter merged into the backbone's weights: it needs no base model, nor peft.

        Saved, it is a folder that `AutoModel.from_pretrained` loads. Scores stay the same to a relative 1e-5. It is
        for use, not for training.

        Raises:
            ValueError: if it is merged already, or its weights are not in float32.
        """
        from peft import PeftModel

        from llmrec.hub.loading import MERGED
        from llmrec.models.merging import merge_adapter

        if not isinstance(self.model, PeftModel):
            raise ValueError("the adapter is merged already: there is nothing to merge.")
        config = replace(self.config, merged=True)
        checkpoint = replace(
            self.checkpoint, name=self.checkpoint.name_from(self.checkpoint.path.parent), origin=MERGED
        )
        with self.items.changing:
            merged = type(self)(merge_adapter(self.model), self.processor, self.items.catalog, config, checkpoint)
        merged.records = self.records  # results of these weights alone are saved with them
        return merged

    def save_pretrained(self, folder: str | os.PathLike, catalog: bool = True, repo_id: str | None = None) -> None:
        """Write the adapter, the head, the item tables and everything else inference needs to `folder`.

        A process that is killed while it saves leaves the old files or the new ones.

        Args:
            folder: where to write.
            catalog: whether the items go with it, and what was learned of each. Without them the folder is small, and
                loading it asks for `items`, which are then read by their text alone.
            repo_id: name on the Hub that the example of the model card loads; None keeps the one it has.
        """
        from llmrec.hub.folder import save_folder
        from llmrec.hub.probe import make_probe
        from llmrec.ranking.open_history import OpenHistory

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
        from llmrec.hub.repository import push_folder

        self.check_pushable(catalog)
        with tempfile.TemporaryDirectory() as folder:
            self.save_pretrained(folder, catalog, repo_id)
            return push_folder(Path(folder), repo_id, private, revision, token, tag)

    def check_pushable(self, catalog: bool = True) -> None:
        """Raise if others could not load the adapter, or may not have its items.

        Raises:
            ValueError: if the base checkpoint is a folder of this machine, or the items may not be given to others.
        """
        from llmrec.hub.data_sets import check_redistribution
        from llmrec.hub.folder import DATA_MANIFEST

        if self.checkpoint.origin == "folder":
            raise ValueError(
                f"the base checkpoint {self.checkpoint.name!r} is a folder of this machine; nobody else could load the "
                "adapter.\nPush the base first, and load the adapter with base_model= its Hub name."
            )
        if catalog:
            check_redistribution(self.records.get(DATA_MANIFEST, {}), "the items")

    def _circumstances(self) -> dict[str, Any]:
        from llmrec.hub.probe import circumstances

        return circumstances(self.model, self.config.base_revision, self.config.base_sha256)
