"""From token states to the embedding of an item's text, as the checkpoint's sentence-transformers files say.

| file of the checkpoint | what is read |
|---|---|
| `modules.json` | Transformer, Pooling, then Dense, Normalize and Dropout; anything else is refused, no code runs |
| `1_Pooling/config.json` | the modes of pooling, and whether a prompt's tokens are pooled |
| `2_Dense/config.json`, `model.safetensors` | width, activation, weights; a pickle is not read |
| `config_sentence_transformers.json` | the prompt of a document |
| `sentence_bert_config.json` | the longest text, lower case |

Without `modules.json` a text's embedding is the mean of its states. What was read is saved with the recommender.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from llmrec.checkpoints import Checkpoint
from llmrec.configuration import ACTIVATIONS, CONFIG_NAME, NORMALIZE, ItemEncoding, RecommenderConfig, read_json

ITEM_LAYERS = "item_layers.safetensors"
"""Weights of Dense layers in a saved folder."""
LEGACY = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
"""What older files call the modes of pooling, in the order in which their results are concatenated."""
DOCUMENT_PROMPTS = ("document", "passage", "corpus")
MAX_MODULES = 1 << 20
"""Bytes of a modules.json."""
PASSED = ("Normalize", "Dropout", "Dense")
"""Modules behind the pooling."""


class ItemTextHead(nn.Module):
    """Pool the token states of texts and pass them through what stands behind the pooling.

    Args:
        encoding: modes of pooling, layers.
        weights: `0.weight` (out, in) and, where it has one, `0.bias` (out,) of Dense layer 0, and so on.
        prompt_tokens: tokens at the head of each text that are its prompt.
    """

    def __init__(
        self, encoding: ItemEncoding | None = None, weights: Mapping[str, Tensor] | None = None, prompt_tokens: int = 0
    ) -> None:
        super().__init__()
        self.encoding = encoding or ItemEncoding()
        self.skipped = 0 if self.encoding.include_prompt else prompt_tokens
        for name, weight in (weights or {}).items():  # buffers of its own: nothing that peft adapts
            self.register_buffer(name.replace(".", "_"), weight.float())

    @property
    def weights(self) -> dict[str, Tensor]:
        """Those of the Dense layers, by the names that they are saved by."""
        return {name.replace("_", "."): weight for name, weight in self.named_buffers()}

    def forward(self, hidden: Tensor, real: Tensor) -> Tensor:
        """Return vectors (B, D), of any length; zero where a text has no token, but for what a bias adds.

        Args:
            hidden: (B, T, D) float32 states, padded on the right.
            real: (B, T) bool, whether a token is a text's.
        """
        places = torch.arange(real.shape[1], device=real.device)
        pooled = torch.cat([_pool(hidden, real & (places >= self.skipped), mode) for mode in self.encoding.pooling], -1)
        number = 0
        for layer in self.encoding.layers:
            if layer == NORMALIZE:
                pooled = F.normalize(pooled, dim=-1)
                continue
            bias = getattr(self, f"{number}_bias", None)
            pooled = getattr(nn, layer)()(F.linear(pooled, getattr(self, f"{number}_weight"), bias))
            number += 1
        return pooled


def _pool(hidden: Tensor, real: Tensor, mode: str) -> Tensor:
    """Return one mode's vectors (B, D); see sentence-transformers' `Pooling`."""
    weights = real[..., None].float()  # (B, T, 1)
    if mode == "max":
        return hidden.masked_fill(weights == 0, -torch.inf).amax(1).masked_fill(~real.any(1)[:, None], 0)
    if mode in ("cls", "lasttoken"):
        places = torch.arange(1, real.shape[1] + 1, device=real.device)
        order = torch.where(real, places if mode == "lasttoken" else -places, -real.shape[1] - 1)
        weights = F.one_hot(order.argmax(1), real.shape[1])[..., None] * weights
        return (hidden * weights).sum(1)
    if mode == "weightedmean":
        weights = weights * torch.arange(1, real.shape[1] + 1, device=real.device)[:, None]
    total = weights.sum(1).clamp(min=1)
    return (hidden * weights).sum(1) / (total.sqrt() if mode == "mean_sqrt_len_tokens" else total)


class SavedEncoding(NamedTuple):
    """What a checkpoint says of texts."""

    encoding: ItemEncoding
    weights: dict[str, Tensor]
    """Of Dense layers, see `ItemTextHead`."""
    max_tokens: int | None
    """Tokens of the longest text, special tokens included; None where it says nothing."""

    def head(self, tokenizer: Any) -> ItemTextHead:
        """Return what makes embeddings of token states."""
        return ItemTextHead(self.encoding, self.weights, prompt_tokens(self.encoding, tokenizer))


def prompt_tokens(encoding: ItemEncoding, tokenizer: Any) -> int:
    """Return the tokens that the prompt takes at the head of a text, special ones before it included."""
    if not encoding.prompt:
        return 0
    tokens = tokenizer(encoding.prompt)["input_ids"]
    return len(tokens) - (tokens[-1] in tokenizer.all_special_ids)


def read_item_encoding(checkpoint: Checkpoint, hidden_size: int) -> SavedEncoding:
    """Read how the checkpoint embeds texts: from its sentence-transformers files, or as llmrec saved it.

    Args:
        checkpoint: a folder of files.
        hidden_size: D, the width of its states.

    Raises:
        ValueError: if a module is none of those that are known, is set to do what is not, or has its weights in a
            pickle; or vectors would not be D wide.
    """
    folder = checkpoint.path
    if (folder / CONFIG_NAME).is_file():
        return saved_encoding(folder, RecommenderConfig.load(folder), hidden_size)
    if not (folder / "modules.json").is_file():
        return SavedEncoding(ItemEncoding(), {}, None)
    return _Layout(checkpoint.name, folder).read(hidden_size)


def saved_encoding(folder: Path, config: RecommenderConfig, hidden_size: int) -> SavedEncoding:
    """Return how a saved folder embeds texts, its Dense layers with it.

    Raises:
        ValueError: if their weights are missing, damaged or of other widths.
    """
    encoding, file = config.item_encoding, folder / ITEM_LAYERS
    found: dict[str, Tensor] = {}
    width, fit = len(encoding.pooling) * hidden_size, True
    dense = [layer for layer in encoding.layers if layer != NORMALIZE]
    if dense and file.is_file():
        try:
            found = load_file(file)
        except SafetensorError:
            fit = False
    for number in range(len(dense)):
        weight, bias = (found.get(f"{number}.{name}") for name in ("weight", "bias"))
        fit = fit and weight is not None and weight.ndim == 2 and weight.shape[1] == width
        width = len(weight) if fit and weight is not None else 0
        fit = fit and (bias is None or tuple(bias.shape) == (width,))
    known = {f"{number}.{name}" for number in range(len(dense)) for name in ("weight", "bias")}
    if not fit or width != hidden_size or not set(found) <= known:
        raise ValueError(
            f"{ITEM_LAYERS} in {str(folder)!r} does not hold {len(dense)} Dense layers from {len(encoding.pooling)} x "
            f"{hidden_size} numbers to {hidden_size}, as {CONFIG_NAME} asks.\nSave or download the folder again."
        )
    return SavedEncoding(encoding, found, None)


class _Layout:
    """The sentence-transformers files of a checkpoint's folder."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name, self.folder = name, folder

    def refuse(self, what: str) -> ValueError:
        return ValueError(
            f"{self.name!r} embeds texts by {what}.\nllmrec reads the sentence-transformers modules Transformer, "
            f"Pooling, then {', '.join(PASSED)}, and runs no code of a repository.\nGive another checkpoint, or a copy "
            "without its modules.json: texts are then embedded by the mean of their states."
        )

    def settings(self, *path: str) -> dict[str, Any]:
        file = self.folder.joinpath(*path)
        return read_json(file) if file.is_file() else {}

    def read(self, hidden_size: int) -> SavedEncoding:
        file = self.folder / "modules.json"
        try:
            listed = json.loads(file.read_text(encoding="utf-8")) if file.stat().st_size <= MAX_MODULES else None
        except (ValueError, RecursionError):
            listed = None
        if not isinstance(listed, list):
            raise self.refuse("a modules.json that is no list")
        modules = [self.module(each) for each in listed]
        kinds = [kind for kind, _ in modules]
        if kinds[:2] != ["Transformer", "Pooling"]:
            raise self.refuse(f"modules {', '.join(kinds) or 'that it does not name'}")
        if modules[0][1]:
            raise self.refuse(f"a Transformer in {modules[0][1]!r}, not beside modules.json")
        pooling = self.settings(modules[1][1], "config.json")
        modes = self.modes(pooling)
        width = len(modes) * hidden_size
        states = pooling.get("embedding_dimension", pooling.get("word_embedding_dimension", hidden_size))
        if states != hidden_size:
            raise self.refuse(f"a Pooling of states of {states!r} numbers, where its states have {hidden_size}")
        layers: list[str] = []
        weights: dict[str, Tensor] = {}
        for kind, path in modules[2:]:
            if kind == "Dense":
                activation, dense, width = self.dense(path, width)
                number = sum(layer != NORMALIZE for layer in layers)
                weights |= {f"{number}.{name}": weight for name, weight in dense.items()}
                layers.append(activation)
            elif kind == "Normalize":
                self.expect_sentence(self.settings(path, "config.json"), kind)
                layers.append(NORMALIZE)
        if width != hidden_size:
            raise self.refuse(
                f"vectors of {width} numbers ({', '.join(modes)} pooling{' and Dense' if weights else ''}), where item "
                f"vectors have the {hidden_size} of its states"
            )
        while layers and layers[-1] == NORMALIZE:
            layers.pop()  # all item vectors are of length one in the end
        own, limit = self.transformer()
        encoding = ItemEncoding(
            pooling=modes,
            prompt=self.prompt(),
            include_prompt=bool(pooling.get("include_prompt", True)),
            lower_case=own,
            layers=layers,
        )
        return SavedEncoding(encoding, weights, limit)

    def module(self, values: Any) -> tuple[str, str]:
        """Return kind and folder of a module that is known."""
        found = values if isinstance(values, dict) else {}
        path, kind = found.get("path", ""), str(found.get("type", values))
        library, _, short = kind.rpartition(".")
        known = ("Transformer", "Pooling", *PASSED)
        if library.partition(".")[0] != "sentence_transformers" or short not in known:
            raise self.refuse(f"the module {kind[:80]!r}")
        if not isinstance(path, str) or not re.fullmatch(r"[\w-]*", path):
            raise self.refuse(f"a module in {path!r}, which is no folder beside modules.json")
        return short, path

    def modes(self, settings: Mapping[str, Any]) -> list[str]:
        found = settings.get("pooling_mode", [mode for name, mode in LEGACY.items() if settings.get(name)] or ["mean"])
        modes = [found] if isinstance(found, str) else list(found)
        if unknown := [mode for mode in modes if mode not in LEGACY.values()]:
            raise self.refuse(f"the pooling {unknown[0]!r}")
        return modes

    def dense(self, path: str, width: int) -> tuple[str, dict[str, Tensor], int]:
        """Return activation, weights and width of a Dense layer."""
        settings = self.settings(path, "config.json")
        self.expect_sentence(settings, "Dense")
        if settings.get("use_residual"):
            raise self.refuse("a Dense layer with a residual")
        library, _, activation = str(settings.get("activation_function", "torch.nn.Tanh")).rpartition(".")
        if not library.startswith("torch.nn") or activation not in ACTIVATIONS:
            raise self.refuse(f"a Dense layer with the activation {activation!r} (known: {', '.join(ACTIVATIONS)})")
        file = self.folder / path / "model.safetensors"
        if not file.is_file():
            raise self.refuse(f"a Dense layer whose weights are no safetensors ({path}/model.safetensors is missing)")
        try:
            found = load_file(file)
        except SafetensorError as error:
            raise self.refuse(f"a Dense layer whose weights are damaged ({error})") from None
        weights = {name.removeprefix("linear."): weight for name, weight in found.items()}
        shapes = {name: tuple(weight.shape) for name, weight in weights.items()}
        after: Any = settings.get("out_features")
        wanted = {"weight": (after, width), **({"bias": (after,)} if settings.get("bias", True) else {})}
        if shapes != wanted:
            raise self.refuse(f"a Dense layer of weights {shapes}, where {wanted} are needed")
        return activation, weights, after

    def expect_sentence(self, settings: Mapping[str, Any], kind: str) -> None:
        for name in ("module_input_name", "module_output_name"):
            if settings.get(name, "sentence_embedding") not in (None, "sentence_embedding"):
                raise self.refuse(f"a {kind} of {settings[name]!r}")

    def prompt(self) -> str:
        settings = self.settings("config_sentence_transformers.json")
        prompts = settings.get("prompts") or {}
        for name in (*DOCUMENT_PROMPTS, settings.get("default_prompt_name")):
            if (prompt := prompts.get(name)) is not None:
                if not isinstance(prompt, str):
                    raise self.refuse(f"the prompt {prompt!r}, which is no text")
                return prompt
        return ""

    def transformer(self) -> tuple[bool, int | None]:
        """Return whether texts are lowered, and the longest text."""
        file = next(iter(sorted(self.folder.glob("sentence_*_config.json"))), None)
        settings = {} if file is None else read_json(file)
        usual = {"transformer_task": "feature-extraction", "module_output_name": "token_embeddings"}
        for name, value in usual.items():
            if settings.get(name) not in (None, value):
                raise self.refuse(f"a Transformer with {name} {settings[name]!r}")
        text = (settings.get("modality_config") or {}).get("text", {})
        if text.get("method", "forward") != "forward" or settings.get("processing_kwargs"):
            raise self.refuse("a Transformer that is called in a way of its own")
        if text.get("method_output_name", "last_hidden_state") != "last_hidden_state":
            raise self.refuse(f"a Transformer's {text['method_output_name']!r}")
        limit = settings.get("max_seq_length")
        if limit is not None and (type(limit) is not int or limit < 1):
            raise self.refuse(f"a max_seq_length of {limit!r}")
        return bool(settings.get("do_lower_case", False)), limit
