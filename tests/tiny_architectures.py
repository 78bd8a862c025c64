"""Tiny random checkpoints of many architectures, and what each is expected to do."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from tiny_checkpoints import byte_pairs
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel

WINDOW = 8
"""Tokens that a layer with an attention window sees."""
SHAPE = {
    "vocab_size": 100,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 64,
    "head_dim": 8,
    "max_position_embeddings": 512,
    "initializer_range": 0.2,
    "pad_token_id": 1,
    "bos_token_id": 0,
    "eos_token_id": 2,
}
MIXED = ["sliding_attention", "full_attention"]
GPT = {"n_embd": 32, "n_layer": 2, "n_head": 4}
EXPERTS = {"num_local_experts": 4, "num_experts_per_tok": 2}
MANY_EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
SHARED = {"shared_expert_intermediate_size": 32}
MAMBA = {"mamba_n_heads": 4, "mamba_d_head": 16, "mamba_d_state": 8}
DELTA = {"linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_key_head_dim": 8, "linear_value_head_dim": 8}
SLIDING = {"use_sliding_window": True, "sliding_window": WINDOW}
FULL, NO_CACHE, CARRIED = "full", "no cache", "a hidden token changed a later state, which is carried along the row"
UNLIKE = "does not read a plain row under a 4D mask as it does without"


@dataclass(frozen=True)
class Architecture:
    """A row of the table.

    Attributes:
        name: what people call it.
        model_type: what transformers calls it.
        expected: `full`, `no cache`, or why it is refused.
        causal: whether it is a decoder.
        window: tokens that layers with a window see, as the configuration counts them; 0 without one.
        settings: of its configuration, beside `SHAPE`; None takes one of those away.
    """

    name: str
    model_type: str
    expected: str = FULL
    causal: bool = False
    window: int = 0
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def reads(self) -> bool:
        """Whether it is not refused."""
        return self.expected in (FULL, NO_CACHE)

    def config(self, **settings: Any) -> PreTrainedConfig:
        """Return its configuration."""
        asked = {**SHAPE, **self.settings, **settings}
        return AutoConfig.for_model(
            self.model_type, **{name: value for name, value in asked.items() if value is not None}
        )

    def build(self, seed: int = 0) -> PreTrainedModel:
        """Return it from random numbers, without a head."""
        torch.manual_seed(seed)
        return AutoModel.from_config(self.config()).eval()

    def save(self, folder: Path) -> Path:
        """Write it to a folder, a decoder with its language-model head, and a tokenizer; return the folder."""
        tokenizer = byte_pairs("roberta")
        tokenizer.save_pretrained(folder)
        torch.manual_seed(0)
        kind: Any = AutoModelForCausalLM if self.causal else AutoModel
        kind.from_config(self.config(vocab_size=len(tokenizer))).save_pretrained(folder)
        return folder


def _encoder(name: str, kind: str, expected: str = FULL, window: int = 0, **settings: Any) -> Architecture:
    return Architecture(name, kind, expected, False, window, settings)


def _decoder(name: str, kind: str, expected: str = FULL, window: int = 0, **settings: Any) -> Architecture:
    return Architecture(name, kind, expected, True, window, {"sliding_window": window or None, **settings})


REQUIRED = [
    _encoder("BERT", "bert"),
    _encoder("RoBERTa", "roberta"),
    _encoder("XLM-R", "xlm-roberta"),
    _encoder("DistilBERT", "distilbert", NO_CACHE, dim=32, n_layers=2, n_heads=4, hidden_dim=64),
    _encoder("ELECTRA", "electra", embedding_size=32),
    _encoder("MPNet", "mpnet", NO_CACHE),
    _encoder("ModernBERT", "modernbert", NO_CACHE, WINDOW + 1, local_attention=2 * WINDOW, layer_types=MIXED),
    _encoder("NomicBERT", "nomic_bert", NO_CACHE),
    _encoder("EuroBERT", "eurobert"),
    _encoder(
        *("EmbeddingGemma", "gemma3_text", FULL, WINDOW // 2 + 1),
        **{"sliding_window": WINDOW, "use_bidirectional_attention": True, "layer_types": MIXED},
    ),
    _decoder("GPT-2", "gpt2", **GPT),
    _decoder("Pythia (GPT-NeoX)", "gpt_neox"),
    _decoder("OPT", "opt", ffn_dim=64, word_embed_proj_dim=32),
    _decoder("Llama 3", "llama"),
    _decoder("Mistral", "mistral", FULL, WINDOW),
    _decoder("Qwen2", "qwen2"),
    _decoder("Qwen2, sliding", "qwen2", FULL, WINDOW, **SLIDING, max_window_layers=1),
    _decoder("Qwen3", "qwen3"),
    _decoder("Gemma 2", "gemma2", FULL, WINDOW),
    _decoder("Gemma 3 (text)", "gemma3_text", FULL, WINDOW, layer_types=MIXED),
    _decoder("Phi-3", "phi3", FULL, WINDOW),
    _decoder("SmolLM3", "smollm3"),
    _decoder("Granite", "granite"),
    _decoder("OLMo 2", "olmo2"),
    _decoder("OLMo 3", "olmo3", FULL, WINDOW, layer_types=MIXED),
    _decoder("Falcon", "falcon", head_dim=None),
    _decoder("Cohere2", "cohere2", FULL, WINDOW, layer_types=MIXED),
    _decoder("gpt-oss", "gpt_oss", FULL, WINDOW, **EXPERTS),
    _decoder("Mixtral", "mixtral", **EXPERTS),
    _decoder(
        *("ModernBERT-decoder", "modernbert-decoder", FULL, WINDOW),
        **{"local_attention": 2 * WINDOW, "layer_types": MIXED},
    ),
]
"""Architectures that every head they allow is tried with."""

OTHERS = [
    _encoder("ALBERT, embeddings as wide as states", "albert", NO_CACHE, embedding_size=32),
    _encoder("Jina v3", "jina_embeddings_v3", NO_CACHE),
    _encoder("Megatron-BERT", "megatron-bert"),
    _decoder("Starcoder2", "starcoder2", FULL, WINDOW),
    _decoder("Qwen3, sliding", "qwen3", FULL, WINDOW, **SLIDING, max_window_layers=1),
    _decoder("Mixtral, sliding", "mixtral", FULL, WINDOW, **EXPERTS),
    _decoder("Ministral", "ministral", FULL, WINDOW),
    _decoder("EXAONE 4", "exaone4", FULL, WINDOW, layer_types=MIXED),
    _decoder("Gemma", "gemma"),
    _decoder("Phi", "phi"),
    _decoder("OLMo", "olmo"),
    _decoder("Cohere", "cohere"),
    _decoder("GPT-J", "gptj", **GPT, rotary_dim=4),
    _decoder("StableLM", "stablelm"),
    _decoder("XGLM", "xglm", d_model=32, num_layers=2, attention_heads=4, ffn_dim=64),
    _decoder("OLMoE", "olmoe", num_experts=4, num_experts_per_tok=2),
    _decoder("Qwen3-MoE", "qwen3_moe", **MANY_EXPERTS),
    _decoder("GLM-4", "glm4"),
]

REFUSED = [
    _encoder("ALBERT", "albert", "has token embeddings of 128 numbers and states of 32"),
    _encoder("DeBERTa v3", "deberta-v2", f"{UNLIKE}: the pass fails: RuntimeError"),
    _encoder("Longformer", "longformer", "the pass fails: IndexError", attention_window=[8, 8]),
    _encoder("ESM", "esm", f"{UNLIKE}: the pass differs"),
    _encoder("RoFormer", "roformer", "takes no position_ids"),
    _encoder("FNet", "fnet", "takes no attention_mask"),
    _decoder("BLOOM", "bloom", "takes no position_ids", n_layer=2, n_head=4),
    _decoder("Falcon, ALiBi", "falcon", f"{UNLIKE}: the pass fails: ValueError", alibi=True, head_dim=None),
    _decoder(
        "Llama 4 (chunked attention)",
        "llama4_text",
        "a row longer than its attention window",
        attention_chunk_size=WINDOW,
        num_local_experts=4,
    ),
    _decoder(
        *("GPT-Neo", "gpt_neo", r"counts its attention window \(window_size=8\) along the row, not by positions"),
        **{"num_layers": 2, "num_heads": 4, "attention_types": [[["global", "local"], 1]], "window_size": WINDOW},
    ),
    _decoder("LFM2", "lfm2", CARRIED, num_hidden_layers=4, full_attn_idxs=[1, 3]),
    _decoder(
        *("Jamba", "jamba", CARRIED),
        **{"attn_layer_period": 2, "attn_layer_offset": 1, "num_experts": 2, "mamba_d_state": 4, "mamba_dt_rank": 4},
        use_mamba_kernels=False,
    ),
    _decoder("Bamba", "bamba", CARRIED, attn_layer_indices=[1], **MAMBA, mamba_n_groups=1, mamba_expand=2),
    _decoder("Falcon-H1", "falcon_h1", CARRIED, **MAMBA, mamba_d_ssm=64),
    _decoder(
        *("Granite 4 (hybrid)", "granitemoehybrid", CARRIED),
        **{"layer_types": ["mamba", "attention"], **MAMBA, **EXPERTS, "shared_intermediate_size": 32},
    ),
    _decoder(
        *("Qwen3-Next", "qwen3_next", CARRIED),
        **{"layer_types": ["linear_attention", "full_attention"], **DELTA, **MANY_EXPERTS, **SHARED},
    ),
    _decoder(
        "RecurrentGemma", "recurrent_gemma", CARRIED, attention_window_size=WINDOW, num_hidden_layers=3, lru_width=32
    ),
    _decoder("Mamba", "mamba", "takes no position_ids"),
]

ALL = {each.name: each for each in [*REQUIRED, *OTHERS, *REFUSED]}
