"""What a fresh recommender is assembled of: checkpoint, template, head, lengths and LoRA."""

from __future__ import annotations

from dataclasses import dataclass, field

from llmrec.configuration import TIME_PARTS


@dataclass
class ModelArguments:
    """What reads, and how it is adapted."""

    base_model: str = field(
        default="sentence-transformers/all-MiniLM-L6-v2",
        metadata={"help": "Pretrained checkpoint: Hub name or local folder, BERT or GPT/Llama style."},
    )
    base_revision: str | None = field(default=None, metadata={"help": "Branch, tag or commit of the checkpoint."})
    init_adapter: str | None = field(
        default=None,
        metadata={
            "help": "Adapter whose LoRA goes on (`llmrec pretrain`), and where it lets items lie: same base, rank and "
            "layers."
        },
    )
    template: str = field(
        default="default", metadata={"help": "Prompt template: a .json file, or the name of one in prompts/."}
    )
    head: str = field(
        default="dual",
        metadata={
            "help": "`dual` alone; or with it `cross`, which scores candidates that have read the history, or "
            "`verbalizer` (decoders), which compares the next-token logits of yes and no."
        },
    )
    dual_gate: float = field(
        default=1.0,
        metadata={"help": "Where the share of the dual head's score in that of `cross` starts: 0 starts without it."},
    )
    like_prior: bool = field(
        default=True,
        metadata={
            "help": "Labelled pairs start from how often the user and others liked so far (`pointwise`), to which "
            "reading adds; false starts from nothing."
        },
    )
    hybrid: bool = field(
        default=True, metadata={"help": "Learn a residual and a bias for every known item, beside its text."}
    )
    whiten: bool = field(
        default=True,
        metadata={
            "help": "Item embeddings start whitened, over the whole catalogue; false starts with them as the texts "
            "are, or as --item_epochs left them."
        },
    )
    item_epochs: float = field(
        default=8.0,
        metadata={
            "help": "Passes over the histories in which it is learned, before anything else and by which items follow "
            "which, where item embeddings start and how fast the past fades (`ranking`); 0 leaves both. What "
            "was learned of the same items (--init_adapter, or an adapted --base_model) is gone on with instead."
        },
    )
    popularity_weight: float | None = field(
        default=None,
        metadata={
            "help": "How much popularity is in a hybrid's scores, in [0, 2]: 0 serves rare items; chosen on validation "
            "by default, 1 without validation."
        },
    )
    memory: bool = field(
        default=True,
        metadata={
            "help": "Add what is remembered to the scores: items that the same people had and, where seen items are "
            "ranked, what a person had before; weighed on validation, and left out where it does not help."
        },
    )
    pooling: str | None = field(
        default=None,
        metadata={"help": "`mean` or `last` token of an event; by default mean for encoders, last for decoders."},
    )
    max_tokens: int = field(default=256, metadata={"help": "Tokens of text read of one history, header included."})
    max_vector_events: int = field(
        default=32, metadata={"help": "Older events that stand as their item vector alone, one position each."}
    )
    time_embedding: list[str] = field(
        default_factory=list,
        metadata={
            "help": f"What of an event's time, and of now, is added to tokens: some of {', '.join(TIME_PARTS)}, or "
            "all; nothing by default, and without a clock."
        },
    )
    window_overlap: float = field(
        default=0.5, metadata={"help": "Share of the text budget kept when the window moves on, at inference."}
    )
    max_item_tokens: int = field(default=64, metadata={"help": "Tokens of an item's text that its embedding reads."})
    max_candidate_tokens: int = field(
        default=64, metadata={"help": "Tokens a candidate may have, for `cross` and `verbalizer`; more are an error."}
    )
    lora_r: int = field(default=16, metadata={"help": "Rank of the LoRA update."})
    lora_alpha: int = field(default=32, metadata={"help": "Scale of the LoRA update, times 1 / rank."})
    lora_dropout: float = field(default=0.0, metadata={"help": "Dropout on the adapter's input."})
    lora_target_modules: list[str] | None = field(
        default=None,
        metadata={
            "help": "Names of linear layers to adapt, a regular expression of their whole names, or all-linear; by "
            "default peft's choice for the model."
        },
    )
    attention_dropout: float | None = field(
        default=None,
        metadata={
            "help": "Share of attention weights left out in training; the checkpoint's own by default. 0 lets CPUs "
            "fuse attention, which makes long windows faster."
        },
    )
    attn_implementation: str | None = field(
        default=None,
        metadata={"help": "Attention of the backbone: sdpa or eager; by default sdpa if the model has it."},
    )

    def __post_init__(self) -> None:
        if self.item_epochs < 0:
            raise ValueError(f"item_epochs={self.item_epochs!r}: give 0, for none, or more.")
