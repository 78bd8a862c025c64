"""The parts of a model card in Markdown, from the record that `llmrec.hub.eval_results` writes.

Every number here is one of the record's; what the record lacks is said to be missing, in a sentence.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from llmrec.configuration import RecommenderConfig
from llmrec.data.findings import SEVERITIES, counted, percent
from llmrec.evaluation.protocol import other_mask, seen_items, trained_on_other_data
from llmrec.hub.eval_results import SUBJECT

LEADING = {"ranking": ("ndcg@10", "recall@10", "mrr"), "pointwise": ("auc", "user_auc", "log_loss")}
"""Metrics that the card shows, the first of which decides who is best."""
TITLES = {"ndcg@10": "NDCG@10", "recall@10": "Recall@10", "mrr": "MRR"}
TITLES |= {"auc": "AUC", "user_auc": "AUC per user", "log_loss": "Log-loss"}

Record = Mapping[str, Any]


def data_part(data: Record | None) -> list[str]:
    """Say where the data come from, how many there are and how they were split."""
    if data is None:
        return ["Not stated: `llmrec card --data_dir` fills this in."]
    read, kept = data["counts"]["events"][0], data["counts"]["events"][-1]
    split = data["split"]
    lines = [
        f"**Source:** {plain(data['source'])}",
        f"**Citation:** {plain(data['citation'])}",
        f"**Licence:** {plain(data['licence'])}",
        f"**Size:** {read['events']:,} events read; {kept['events']:,} kept, of {kept['users']:,} users and "
        f"{kept['items']:,} items",
        f"**Split:** {_words(split['kind'])}{'; ' + plain(split['meaning']) if 'meaning' in split else ''}",
        f"**Manifest:** `{data['sha256']}`",
        *(f"**Note:** {plain(note)}" for note in data["notes"]),
    ]
    rows = [
        [name, *(f"{split['counts'][name][what]:,}" for what in ("events", "users", "items", "cold_items"))]
        for name in ("train", "validation", "test")
        if name in split["counts"]
    ]
    return [bullets(lines), _table(["split", "events", "users", "items", "items without training events"], rows)]


def protocol_part(results: Record) -> list[str]:
    """Say how the numbers were measured."""
    protocol = results["protocol"]
    whole = protocol["num_users_drawn_from"]
    lines = [
        f"{counted(protocol['num_cases'], 'target')} of {counted(protocol['num_users'], 'user')}"
        f"{f', drawn from {whole:,}' if whole else ''}, {protocol['split']} split"
        f"{' (' + _words(protocol['split_kind']) + ')' if 'split_kind' in protocol else ''}."
    ]
    if results["task"] == "ranking":
        share = percent(protocol["repeated_target_share"])
        seen = f"left out of the ranking, so that {share} of the targets, seen before, are misses"
        other = other_mask(protocol)
        lines += [
            f"Every target is ranked among all {protocol['num_items']:,} items. Rank: {plain(protocol['tie_rule'])}.",
            f"Items of the history are {seen if protocol['mask_seen'] else f'ranked too; {share} of the targets are'}"
            f"{'' if protocol['mask_seen'] else ' among them'}.{f' {plain(other)}' if other else ''}",
            f"{percent(protocol['tied_event_share'])} of the events share their time with a neighbour.",
        ]
    else:
        lines += [f"{percent(protocol['like_share'])} of the targets are liked. {plain(protocol['scores'])}."]
    weight = results["subject"].get("popularity_weight")
    if weight is not None:
        saved = results["subject"].get("saved_popularity_weight", weight)
        other = f", not with the {saved:g} that the model was saved with" if saved != weight else ""
        lines.append(f"Popularity stood in the scores with weight {weight:g}{other}.")
    lines.append(
        f"Brackets are {protocol['confidence']:.0%} bootstrap intervals over users, {protocol['bootstrap_draws']:,} "
        f"draws, seed {protocol['seed']}."
    )
    return [bullets(lines)]


def results_part(results: Record) -> list[str]:
    """Say how the model stands against the best baseline, and show every system."""
    systems, best = results["systems"], results["best_baseline"]
    metrics = [metric for metric in LEADING[results["task"]] if metric in systems[SUBJECT]]
    first = metrics[0]
    order = sorted(systems, key=lambda name: (-systems[name][first]["value"], name))
    rows = [
        [
            plain(name),
            *(_interval(systems[name][metric]) for metric in metrics),
            _interval(results["differences"].get(name, {}).get(first), signed=True),
        ]
        for name in order
    ]
    header = ["system", *(TITLES[metric] for metric in metrics), f"{SUBJECT} − system, {TITLES[first]}"]
    ranking = results["task"] == "ranking"
    seen = f" {seen_items(results['protocol']).capitalize()}." if ranking else ""
    if best is None:
        return [_table(header, rows), f"No baseline was evaluated beside it.{seen}"]
    difference = results["differences"][best][first]
    verdict = (
        f"Against the best baseline, {best}, the paired difference in {TITLES[first]} is "
        f"{_interval(difference, signed=True)}: {_reading(difference)}.{seen}"
    )
    return [verdict, _table(header, rows)]


def _reading(difference: Record) -> str:
    if difference["low"] > 0:
        return "above zero"
    return "below zero" if difference["high"] < 0 else "not larger than its error"


def strata_part(results: Record) -> list[str]:
    """Show model and best baseline for each kind of target."""
    metric, best = LEADING[results["task"]][0], results["best_baseline"]
    names = [name for name in (SUBJECT, best) if name is not None]
    compared = [f"{SUBJECT} − {best}"] if best is not None else []
    tables = []
    for stratum in results["strata"]:
        rows = []
        for group in (group for group in stratum["groups"] if group["num_cases"]):
            row = [plain(group["label"]), f"{group['num_cases']:,}", f"{group['num_users']:,}"]
            row += [_interval(group["systems"].get(name, {}).get(metric)) for name in names]
            rows.append(row + [_interval((group["difference"] or {}).get(metric), signed=True)] * len(compared))
        tables.append(_table([plain(stratum["title"]), "targets", "users", *names, *compared], rows))
    return [f"{TITLES[metric]}:", *tables]


def limits_part(config: RecommenderConfig, record: Record) -> list[str]:
    """List what to beware of, first what holds for any such model, then what was measured."""
    lines = [
        "It learned what people were shown as much as what they liked: popularity and exposure biases of the data stay "
        "in its scores.",
        "Numbers were measured offline: whether people would like what they did not choose is not known.",
        "It reads the language of its base model and of the items' texts; people unlike those of the data may be "
        "served worse.",
        "`items.parquet` holds the texts of the data's items, to which the data's licence applies.",
    ]
    if config.hybrid:
        lines.append(
            "Popular items gain by their popularity (`popularity_weight`), and items with few training events are read "
            "by little more than their text."
        )
    results = record.get("results")
    if not results:
        return lines
    protocol = results["protocol"]
    if (trained := trained_on_other_data(results)) is not None:
        lines.append(
            f"It was measured on other data than it was trained on ({plain(trained.get('source') or 'unnamed')}): if "
            "the two share events, it may have learned the very targets that it was asked for."
        )
    if protocol.get("split_kind") == "leave_one_out":
        lines.append("The split cuts by user, not by time: training holds events later than other users' targets.")
    if "num_cold_items" in protocol:
        lines.append(
            f"{protocol['num_cold_items']:,} of {protocol['num_items']:,} items have no training event; "
            f"{percent(protocol['cold_target_share'])} of the targets are among them."
        )
    metric = LEADING[results["task"]][0]
    for stratum in results["strata"]:
        for group in stratum["groups"]:
            difference = (group["difference"] or {}).get(metric)
            if difference and difference["high"] < 0:
                kind = f"{plain(stratum['title'])}: {plain(group['label'])}"
                below = f"{TITLES[metric]} {_interval(difference, signed=True)}"
                lines.append(f"Below {results['best_baseline']} where {kind}; {below}.")
    return lines


def audit_part(audit: Record | None) -> list[str]:
    """List what the audit of the data found, the gravest first."""
    if audit is None:
        return ["Not stated: `llmrec card --data_dir` fills this in, or results of audited data."]
    findings = sorted(audit["findings"], key=lambda finding: SEVERITIES.index(finding["severity"]))
    lines = [
        f"**{finding['severity']}: {plain(finding['title'])}:** {finding['count']:,} of {finding['of']:,}. "
        f"{plain(finding['effect'])}"
        for finding in findings
    ]
    for what, rows in (("Looked for and not found", audit["passed"]), ("Not answered by these data", audit["skipped"])):
        if rows:
            lines.append(f"**{what}:** {'; '.join(plain(row['title']) for row in rows)}.")
    return [bullets(lines)] if lines else ["Nothing was found."]


def training_part(record: Record) -> list[str]:
    """Show settings, end and environment of the training run."""
    training = record.get("training")
    if not training:
        return ["Not stated: `llmrec card` reads `train_results.json` of the run, where there is one."]
    model = record["model"]
    lora = {f"lora_{name.removeprefix('lora_')}": value for name, value in model.get("lora", {}).items()}
    settings = {**(training["settings"] or {}), **lora, **training["end"]}
    if "train_runtime" in settings:
        settings["train_runtime, seconds"] = settings.pop("train_runtime")
    parts = [_table(["setting", "value"], [[plain(name), _value(settings[name])] for name in settings])]
    if not training["settings"]:
        parts.append("The run recorded no further settings.")
    versions = training["environment"]
    if versions:
        parts.append(f"Environment: {', '.join(f'{name} {plain(str(versions[name]))}' for name in versions)}.")
    else:
        parts.append("The run recorded no environment.")
    return parts


def _interval(interval: Record | None, signed: bool = False) -> str:
    """Write a value with its interval, with four decimals and true minus signs.

    >>> _interval({"value": 0.25, "low": -0.5, "high": 1}, signed=True)
    '+0.2500 [−0.5000, +1.0000]'
    """
    if interval is None:
        return "–"
    value, low, high = (
        f"{round(interval[name], 4) + 0.0:{'+' if signed else ''}.4f}".replace("-", "−")
        for name in ("value", "low", "high")
    )
    return f"{value} [{low}, {high}]"


def _value(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_value, value))
    return f"{value:.4g}" if isinstance(value, float) else plain(str(value))


def _words(name: str) -> str:
    return plain(name.replace("_", "-"))


def plain(text: str) -> str:
    r"""Make text of others safe within a line: no HTML, no cell border, no second line.

    >>> print(plain("<b>a|b</b>\n c"))
    &lt;b>a\|b&lt;/b> c
    """
    return " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;").replace("|", "\\|").replace("`", "'")


def bullets(lines: Iterable[str]) -> str:
    """Write lines as a list."""
    return "\n".join(f"- {line}" for line in lines)


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    rule = ["---", *["---:"] * (len(header) - 1)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (header, rule, *rows))
