"""Heads that score a candidate by the state of its own block, after it has read the history."""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterable, Mapping, Sequence
from threading import Lock
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call
from transformers import AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutputWithPast

from llmrec.checkpoints import Checkpoint
from llmrec.models.backbone import load_with_head

TOLERANCE = 1e-4
"""Share of the spread of a language model's scores by which a verbalizer's may differ: twice the noise of float32."""
PROBED_TOKENS = 16


class CandidateHead(nn.Module):
    """A head that scores a candidate by the state of its block; the base of one's own.

    A subclass is built from D alone, learns its parameters with LoRA, and is saved with the adapter under the name of
    its class: `Recommender.from_backbone(..., head=MyHead)`, `Recommender.from_pretrained(..., heads=[MyHead])`.

    Args:
        hidden_size: D, the width of the states.
    """

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.hidden_size = hidden_size

    def forward(self, states: Tensor, dual: Tensor) -> Tensor:
        """Return scores (...) of candidate states (..., D) and the dual head's scores (...) of the same candidates."""
        raise NotImplementedError(f"{type(self).__name__} has no forward: return a score for each candidate.")


def head_classes(heads: Iterable[type[CandidateHead]]) -> dict[str, type[CandidateHead]]:
    """Return heads of one's own by the name under which they are saved.

    Raises:
        TypeError: if one is no subclass of `CandidateHead`.
    """
    found = {}
    for head in heads:
        if not (isinstance(head, type) and issubclass(head, CandidateHead)):
            raise TypeError(f"head {head!r} is no class of its own: subclass llmrec.heads.CandidateHead.")
        found[head.__name__] = head
    return found


class CrossHead(CandidateHead):
    """Score = g * dual score + w . layer_norm(state) + b.

    The linear layer starts at zero. With g = 1 training starts at the ranking of the dual head, which the candidate's
    state then corrects; with g = 0 nothing but the state counts. g is learned.

    Args:
        hidden_size: D.
        dual_gate: where g starts.
    """

    def __init__(self, hidden_size: int, dual_gate: float = 1.0) -> None:
        super().__init__(hidden_size)
        self.dual_gate = nn.Parameter(torch.tensor(dual_gate))
        self.weight = nn.Parameter(torch.zeros(hidden_size))
        self.bias = nn.Parameter(torch.tensor(0.0))

    def forward(self, states: Tensor, dual: Tensor) -> Tensor:
        """Return scores (...) of candidate states (..., D) and the dual head's scores (...) of the same candidates."""
        return self.dual_gate * dual + F.layer_norm(states, states.shape[-1:]) @ self.weight + self.bias


class VerbalizerHead(nn.Module):
    """Score = logit(yes) - logit(no) of the next token after the candidate's block (decoders).

    The logits are those of the architecture's own language model: its `forward` runs over given states, with the two
    answers for a vocabulary, so that whatever it does to states and logits (a transform, a bias, a scale, a cap) is in
    the score. Nothing in it is learned: the adapter moves the states, and the weights are buffers.

    Args:
        language_model: with its head; it is taken apart.
        answers: tokens for yes and for no.

    Raises:
        ValueError: if it has no matrix of output vectors, or its backbone stands in no place of its own.

    References:
        Verbalizers: Schick and Schütze 2021, arXiv:2001.07676, section 3.
    """

    def __init__(self, language_model: Any, answers: Sequence[int]) -> None:
        super().__init__()
        kind, output = type(language_model).__name__, language_model.get_output_embeddings()
        if not isinstance(output, nn.Linear) or language_model.base_model is language_model:
            raise ValueError(f"{kind} has no output vectors behind its backbone, so that an answer has no logit.")
        rows = nn.Linear(output.in_features, len(answers), bias=output.bias is not None)
        rows.load_state_dict({name: weight[list(answers)] for name, weight in output.state_dict().items()}, assign=True)
        language_model.set_output_embeddings(rows)
        setattr(language_model, language_model.base_model_prefix, _GivenStates(language_model.base_model))
        self._names = {name: name.replace(".", "_") for name in language_model.state_dict()}
        for name, weight in language_model.state_dict().items():
            known = torch.zeros(weight.shape) if weight.is_meta else weight.detach().float().clone()
            self.register_buffer(self._names[name], known)
        self._language_model = (language_model.to("meta"),)  # in a tuple: peft looks for layers among submodules

    def forward(self, states: Tensor, dual: Tensor) -> Tensor:
        """Return scores (...) of candidate states (..., D), the last of each block; `dual` is not looked at."""
        weights = {name: getattr(self, own) for name, own in self._names.items()}
        rows = states.reshape(1, -1, states.shape[-1])
        with _ONE_AT_A_TIME:
            called = functional_call(self._language_model[0], weights, kwargs={"inputs_embeds": rows})
        yes, no = called.logits[0].unbind(-1)
        return (yes - no).view(states.shape[:-1])


_ONE_AT_A_TIME = Lock()
"""Held while weights stand in a module that threads share."""


class _GivenStates(nn.Module):
    """Stands where a language model has its backbone, and returns the states that it is given.

    Args:
        backbone: whose settings and numbers some language models look up; its parts are this, too.
    """

    def __init__(self, backbone: Any) -> None:
        super().__init__()
        self.config = backbone.config
        for name, value in vars(backbone).items():
            if isinstance(value, (bool, int, float)) and not name.startswith("_"):
                setattr(self, name, value)
        for name, part in backbone.named_children():
            if isinstance(part, PreTrainedModel):  # OPT's language model reads its backbone's decoder
                object.__setattr__(self, name, self)

    def forward(self, *_: Any, inputs_embeds: Tensor, **__: Any) -> BaseModelOutputWithPast:
        """Return the states as the last hidden ones."""
        return _OnlyStates(last_hidden_state=inputs_embeds)


class _OnlyStates(BaseModelOutputWithPast):
    """What a backbone returns, without anything beside the states."""

    def __getattr__(self, name: str) -> None:
        if name.startswith("_"):
            raise AttributeError(name)


@torch.no_grad()
def verbalizer_head(backbone: PreTrainedModel, checkpoint: Checkpoint, answers: Sequence[int]) -> VerbalizerHead:
    """Return the head of a decoder, whose scores are those of the checkpoint's own language model.

    Args:
        backbone: the checkpoint's, loaded.
        checkpoint: where its head is.
        answers: tokens for yes and for no.

    Raises:
        ValueError: if the checkpoint was saved without its head, or its scores cannot be made equal.
    """
    whole, report = load_with_head(AutoModelForCausalLM, checkpoint)
    behind = [name for name in report["missing_keys"] if not name.startswith(f"{whole.base_model_prefix}.")]
    if behind:  # they would be random numbers
        raise ValueError(
            f"{checkpoint.name!r} was saved without {', '.join(sorted(behind))}: it predicts no token.\n"
            "Use the cross head, or give the checkpoint with its language-model head."
        )
    tokens = torch.arange(PROBED_TOKENS)[None] % whole.config.vocab_size
    training = backbone.training
    try:
        logits = whole.eval()(input_ids=tokens, use_cache=False).logits[0]
        wanted = logits[:, answers[0]] - logits[:, answers[1]]
        head = VerbalizerHead(whole, answers)
        states = backbone.eval()(input_ids=tokens, use_cache=False).last_hidden_state[0]
        reason = _difference(head(states.float(), wanted), wanted)
    except (RuntimeError, ValueError, TypeError, AttributeError, NotImplementedError) as error:
        reason = str(error)[:200]
    finally:
        backbone.train(training)
    if reason:
        raise ValueError(
            f"{checkpoint.name!r} ({backbone.config.model_type}): the scores of a verbalizer would not be the logits "
            f"of its language model: {reason}.\nUse the cross head."
        )
    return head


def _difference(found: Tensor, wanted: Tensor) -> str:
    """Return in words how scores differ, or nothing where they are equal."""
    apart = (found - wanted).abs().max().item()
    return "" if apart <= TOLERANCE * wanted.std().item() else f"they differ by {apart:.2g}"


class DirectionHead(VerbalizerHead):
    """The verbalizer of folders that hold one vector: it is the language model's where that is linear and no more.

    Args:
        hidden_size: D.
    """

    direction: Tensor

    def __init__(self, hidden_size: int) -> None:
        nn.Module.__init__(self)
        self.register_buffer("direction", torch.zeros(hidden_size))

    def forward(self, states: Tensor, dual: Tensor) -> Tensor:
        """Return scores (...) of candidate states (..., D)."""
        return states @ self.direction


def empty_candidate_head(
    kind: str, config: PreTrainedConfig, saved: Collection[str], own: Mapping[str, type[CandidateHead]]
) -> CandidateHead | VerbalizerHead | None:
    """Return a head of the kind for a saved one to be loaded into; None for `dual`, which needs no other.

    Args:
        kind: one of `HEADS` of the configuration.
        config: the backbone's.
        saved: names of the saved head's weights.
        own: heads of the caller's own by name.

    Raises:
        ValueError: if the head is of a class that nobody gave, or the saved head is one vector, whose scores are not
            the architecture's logits.
    """
    if kind == "dual":
        return None
    if kind == "cross":
        return CrossHead(config.hidden_size)
    if kind in own:
        return own[kind](config.hidden_size)
    if kind != "verbalizer":
        raise ValueError(
            f"the adapter has a candidate head of the class {kind!r}, which llmrec does not have.\n"
            f"Give the class: Recommender.from_pretrained(…, heads=[{kind}])."
        )
    with torch.device("meta"):
        language_model = AutoModelForCausalLM.from_config(
            copy.deepcopy(config), attn_implementation="eager", trust_remote_code=False
        )
    head = VerbalizerHead(language_model, [0, 1])
    if "direction" not in saved:
        return head
    one = DirectionHead(config.hidden_size)
    random = torch.Generator().manual_seed(0)
    states = torch.randn(8, config.hidden_size, generator=random)
    one.direction.copy_(torch.randn(config.hidden_size, generator=random))
    rows = torch.stack([one.direction, torch.zeros_like(one.direction)])
    if [tuple(weight.shape) for weight in head.state_dict().values()] == [tuple(rows.shape)]:
        head.load_state_dict(dict.fromkeys(head.state_dict(), rows))
    if _difference(one(states, states), head(states, states)):
        raise ValueError(
            f"the saved verbalizer is one vector, and the logits of {config.model_type} are more than its product with "
            "a state: its scores were others than the language model's.\nTrain it again."
        )
    return one


def answer_token(tokenizer: object, word: str) -> int:
    """Return the token that a word is, as it stands after a space or at the start of a line.

    Raises:
        ValueError: if the vocabulary has no single token for it.
    """
    for text in (f" {word}", word):
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]  # type: ignore[operator]
        if len(ids) == 1 and ids[0] != tokenizer.unk_token_id:  # type: ignore[attr-defined]
            return ids[0]
    raise ValueError(
        f"answer {word!r} is no single token of this checkpoint's vocabulary, so it has no logit of its own.\n"
        'Give other words in the template, such as "answers": ["yes", "no"], or use the cross head.'
    )
