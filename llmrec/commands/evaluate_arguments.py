"""The options of `llmrec evaluate`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from llmrec.recommender import NUM_CANDIDATES


@dataclass
class EvaluateArguments:
    """What is ranked, by whom, and how."""

    data_dir: str = field(metadata={"help": "Data directory made by `llmrec prepare`, or hub:owner/name."})
    output_dir: str = field(metadata={"help": "Folder for results.json, results.md, results.html and the tables."})
    task: Literal["ranking", "pointwise"] = field(
        default="ranking",
        metadata={"help": "Rank the catalogue for the next item, or judge likes and dislikes (pointwise)."},
    )
    model: str | None = field(
        default=None, metadata={"help": "Adapter: output folder of `llmrec train`, or a Hub name; none for baselines."}
    )
    baselines: str | None = field(
        default=None,
        metadata={
            "help": "Output folder of `llmrec baselines`; popularity, item_knn and content, and own_items where seen "
            "items are ranked, are fitted here where it has none."
        },
    )
    split: str = field(default="test", metadata={"help": "Targets: test or validation."})
    targets: Literal["all", "first"] = field(
        default="all", metadata={"help": "All targets, or those a person has not had before (first purchases)."}
    )
    mask_seen: bool | None = field(
        default=None,
        metadata={
            "help": "Leave items of the history out of the ranking, true or false; by default as the adapter was "
            "trained, and without one as the baselines were chosen."
        },
    )
    popularity_weight: float | None = field(
        default=None,
        metadata={"help": "How much popularity is in the adapter's scores, in [0, 2]; by default as it was saved."},
    )
    head: Literal["saved", "dual", "cross", "verbalizer"] = field(
        default="saved",
        metadata={"help": "Head that ranks: the one the adapter was saved with, or its dual head alone."},
    )
    candidates: str = field(
        default=str(NUM_CANDIDATES),
        metadata={
            "help": "Items that the dual head proposes to a candidate head, in the whole-catalogue ranking; `all` has "
            "it rank every item, exactly: for small catalogues."
        },
    )
    proposer: str | None = field(
        default=None,
        metadata={
            "help": "Another adapter on the same data whose dual head proposes what this one's candidate head ranks; "
            "by default the adapter proposes by itself."
        },
    )
    shuffles: bool = field(
        default=True, metadata={"help": "Also rank each user's first target after shuffled order and shuffled times."}
    )
    ablate: str | None = field(
        default=None,
        metadata={
            "help": "What is taken from the adapter, for a table of what each part is worth: some of "
            "reading,memory,time,order; reading is its language model, shut out by closing its gate."
        },
    )
    against: str | None = field(
        default=None,
        metadata={"help": "Another adapter on the same data, compared user by user (row llmrec_against)."},
    )
    max_users: int | None = field(default=None, metadata={"help": "Users evaluated, drawn by seed; all by default."})
    seed: int = field(default=0, metadata={"help": "Seed of samples, bootstrap, permutations and shuffles."})
    batch_size: int = field(default=32, metadata={"help": "Windows of histories read at once; changes no number."})
    base_model: str | None = field(
        default=None, metadata={"help": "Base checkpoint, if it is not where the adapter says: Hub name or folder."}
    )
    revision: str | None = field(default=None, metadata={"help": "Branch, tag or commit of the adapter on the Hub."})
