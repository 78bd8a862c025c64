"""`README.md` of a saved folder, the model card: a function of the folder, with every number from `eval_results.json`.

What is not there, such as an evaluation, is said to be missing in a sentence. A README without this module's mark was
written by somebody and is left alone; of one with it, metadata that people add by hand stay (`BY_HAND`).
"""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCardData
from huggingface_hub.repocard import metadata_load
from yaml import YAMLError

from llmrec.configuration import RecommenderConfig
from llmrec.data.catalog import Catalog
from llmrec.formatting import printable
from llmrec.hub.card_parts import (
    LEADING,
    TITLES,
    audit_part,
    bullets,
    data_part,
    limits_part,
    plain,
    protocol_part,
    results_part,
    strata_part,
    training_part,
)
from llmrec.hub.eval_results import EVAL_RESULTS, SUBJECT, describe_model
from llmrec.hub.names import ITEMS
from llmrec.text.template import TIME_FIELDS, PromptTemplate, field_names
from llmrec.untrusted import check_bytes, holds

CARD = "README.md"
BY_HAND = ("license", "license_name", "license_link", "language", "datasets")
"""Metadata that nobody but a person knows."""
MARK = re.compile(r"<!-- llmrec card(?: of (\S+))? -->")
HUB_NAME = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?")
PLAIN_ID = re.compile(r"[\w.:-]+")
TAGS = ("llmrec", "sequential-recommendation", "recommender-system")

Record = Mapping[str, Any]


def renewed_card(
    folder: Path, record: Record | None, earlier: Path, repo_id: str | None = None, **by_hand: Any
) -> str | None:
    """Return the card of a saved folder, with what people added to an earlier one; None where they wrote it themselves.

    Args:
        folder: the saved folder.
        record: from `condense`, if there is one.
        earlier: where an earlier card may stand.
        repo_id: the name on the Hub, which the example then loads; None keeps the one that an earlier card names.
        by_hand: metadata among `BY_HAND`; None keeps an earlier card's.
    """
    text = read_card(earlier.parent) or ""
    mark = MARK.search(text)
    if text and mark is None:
        return None
    metadata = _metadata(earlier) if text else {}
    kept = {name: metadata[name] for name in BY_HAND if _is_text(metadata.get(name))}
    kept |= {name: value for name, value in by_hand.items() if value is not None}
    return card_text(folder, record, repo_id or (mark[1] if mark else None), kept)


def read_card(folder: Path) -> str | None:
    """Return the text of a folder's card, whoever wrote it, None where there is none."""
    if not holds(folder, CARD):
        return None
    path = folder / CARD
    check_bytes(CARD, path.stat().st_size)
    content = path.read_bytes()
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        warnings.warn(
            f"{CARD} in {str(folder)!r} is not UTF-8 (byte {error.start:,}): what cannot be read of it is replaced by "
            "\N{REPLACEMENT CHARACTER}.",
            stacklevel=3,
        )
        text = content.decode("utf-8", errors="replace")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _metadata(card: Path) -> dict[str, Any]:
    try:
        return metadata_load(card) or {}
    except (ValueError, YAMLError, RecursionError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        warnings.warn(f"metadata of {str(card)!r} cannot be read and is left out: {printable(reason)}.", stacklevel=4)
        return {}


def _is_text(value: Any) -> bool:
    """Tell whether metadata is a text or a list of them: what YAML lets a few lines unfold to is not taken over."""
    return isinstance(value, str) or (isinstance(value, list) and all(isinstance(each, str) for each in value))


def card_text(folder: Path, record: Record | None, repo_id: str | None = None, by_hand: Record | None = None) -> str:
    """Return the card of a saved folder; what the record holds is used if it is about this model."""
    config = RecommenderConfig.load(folder)
    stale = record is not None and record["model"]["model_sha256"] != describe_model(folder)["model_sha256"]
    known: Record = {} if record is None or stale else record
    base = hub_name(config.base_model)
    title = repo_id or f"A sequential recommender on {base or 'a local base model'}"
    results = known.get("results")
    missing = (
        f"`{EVAL_RESULTS}` was measured on another model than this: nothing of it is repeated here."
        if stale
        else "Not evaluated yet: `llmrec evaluate` and `llmrec card --results` fill this in."
    )
    parts = [
        f"---\n{card_metadata(config, known, title, by_hand or {}).to_yaml()}\n---",
        f"<!-- llmrec card{f' of {repo_id}' if repo_id else ''} -->",
        f"# {plain(title)}",
        _what_it_is(config, PromptTemplate.load(folder), base),
        "## How to use it",
        f"```python\n{example(folder, repo_id)}\n```",
        _loading(config, repo_id),
        *("## Data", *data_part(known.get("data"))),
        *("## Protocol", *(protocol_part(results) if results else [missing])),
        *("## Results", *(results_part(results) if results else [missing])),
        *(("### By kind of target", *strata_part(results)) if results and results["strata"] else ()),
        *("## Limits and biases", bullets(limits_part(config, known))),
        *("## Audit of the data", *audit_part(known.get("audit"))),
        *("## Training", *training_part(known)),
    ]
    return "\n\n".join(parts) + "\n"


def card_metadata(config: RecommenderConfig, record: Record, title: str, by_hand: Record) -> ModelCardData:
    """Return the front matter by which the Hub lists the model.

    The library is peft, not llmrec: the Hub counts and lists adapters of known libraries.
    """
    base, relation = hub_name(config.base_model), "finetune" if config.merged else "adapter"
    tags = [*TAGS, *([] if config.merged else ["lora"]), *([f"base_model:{relation}:{base}"] if base else [])]
    known: dict[str, Any] = {"library_name": "transformers" if config.merged else "peft", "tags": tags}
    known |= {"pipeline_tag": "text-ranking", **by_hand}
    if base:
        known |= {"base_model": base, "base_model_relation": relation}
    if results := record.get("results"):
        shown = [metric for metric in LEADING[results["task"]] if results["systems"][SUBJECT].get(metric)]
        known["metrics"] = [metric.partition("@")[0] for metric in shown]
        known |= {"model_name": title, "eval_results": [_eval_result(results, metric) for metric in shown]}
    return ModelCardData(**known)


def hub_name(base_model: str) -> str | None:
    """Return the base model's name if it is one of the Hub's, not a path.

    >>> hub_name("sentence-transformers/all-MiniLM-L6-v2"), hub_name("../bert"), hub_name("/models/bert")
    ('sentence-transformers/all-MiniLM-L6-v2', None, None)
    """
    return base_model if HUB_NAME.fullmatch(base_model) else None


def example(folder: Path, repo_id: str | None = None) -> str:
    """Return five lines that load the model and recommend; without a name they run in the folder itself.

    Where the folder has no items, the lines bring some: a reader's own stand there.
    """
    template, own = PromptTemplate.load(folder), folder / ITEMS
    by_title = sorted(name for name in template.fields if name.isidentifier())
    by_title.sort(key=lambda name: name != "title")
    if own.is_file():
        items = Catalog.read(own)
        ids = [item_id for item_id in items.ids if PLAIN_ID.fullmatch(item_id)]
        fields = [name for name in by_title if name in items.frame.columns][:1]
        given, remark = "", ""
    else:
        ids, fields = ["1", "2", "3"], [name for name in by_title if name in template.required_fields] or by_title[:1]
        rows = [{"item_id": item_id, **{name: f"{name} of item {item_id}" for name in fields}} for item_id in ids]
        given, remark = f", items={json.dumps(rows)}", "  # your items"
    events = [json.dumps({"item_id": item_id}) for item_id in ids[:2]]
    events += [json.dumps(dict.fromkeys(fields, "an item in words, known or not"))] if fields else []
    return (
        "from llmrec import Recommender\n\n"
        f"recommender = Recommender.from_pretrained({json.dumps(repo_id or '.')}{given}){remark}\n"
        f"history = [{', '.join(events)}]  # oldest first\n"
        "for entry in recommender.recommend(history, k=5):\n"
        "    print(entry.rank, entry.item_id, entry.score, entry.text)"
    )


def _what_it_is(config: RecommenderConfig, template: PromptTemplate, base: str | None) -> str:
    model = f"[{base}](https://huggingface.co/{base})" if base else "a base model that is not on the Hub"
    how = "into whose weights a LoRA adapter was merged" if config.merged else "with a LoRA adapter"
    heads = {
        "dual": "A dual head scores the whole catalogue",
        "cross": "A dual head proposes items and a cross head ranks them after they have read the history",
        "verbalizer": "A dual head proposes items and logits of yes and no rank them after they have read the history",
    }
    own = f"A dual head proposes items and `{config.head}` ranks them after they have read the history"
    learned = "; known items have learned residuals beside their text" if config.hybrid else ""
    timed = ", and when," if config.time_embedding or TIME_FIELDS & field_names(template.event + template.query) else ""
    written = "is written as text and read by" if template.event else "enters, an item's vector for each event,"
    return (
        f"A sequential recommender made with llmrec: what a person did{timed} "
        f"{written} {model}, {how}. {heads.get(config.head, own)}{learned}. Items that nobody has used "
        f"yet are scored from their words. Items of the history {'are left out' if config.mask_seen else 'come again'} "
        f"unless `exclude_seen` says otherwise.{_adaptation(config.adapted_on)}"
    )


def _adaptation(adapted_on: Record | None) -> str:
    """Say what the base model was adapted to, if it was; the config may be a stranger's."""
    if adapted_on is None:
        return ""
    read = adapted_on.get("data")
    sources = [str(one.get("source")) for one in read if isinstance(one, dict)] if isinstance(read, list) else []
    return (
        " The base model first went on reading unlabelled histories "
        f"({plain(str(adapted_on.get('objective')))}) of {plain(', '.join(sources) or 'data that are not named')}."
    )


def _loading(config: RecommenderConfig, repo_id: str | None) -> str:
    where = "" if repo_id else " Run it in this folder, or give the folder's path."
    if config.merged:
        return f"`AutoModel.from_pretrained` loads the backbone alone, without heads and items.{where}"
    return (
        "peft alone would load the adapted layers without heads and items, so load it as above; the base model is "
        f"fetched as `llmrec_config.json` says.{where}"
    )


def _eval_result(results: Record, metric: str) -> EvalResult:
    protocol = results["protocol"]
    source = str(protocol.get("source", "unnamed data"))
    return EvalResult(
        task_type="text-ranking",
        task_name="sequential recommendation",
        dataset_type=re.sub(r"[^\w.-]+", "-", source),
        dataset_name=source,
        dataset_split=protocol["split"],
        metric_type=metric.replace("@", "_at_"),
        metric_name=TITLES[metric],
        metric_value=results["systems"][SUBJECT][metric]["value"],
        metric_args={"candidates": "full catalogue"} if results["task"] == "ranking" else None,
    )
