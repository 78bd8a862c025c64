"""`results.json` → the sections of a report, in the order of reading; what was not measured is left out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from llmrec.evaluation.breakdowns import (
    ablations_section,
    lists_section,
    near_duplicates_section,
    shuffles_section,
    strata_section,
)
from llmrec.evaluation.document import Cell, Section, Table, interval_cell
from llmrec.evaluation.protocol import protocol_notes
from llmrec.evaluation.provenance import audit_section, searches_section, training_section
from llmrec.evaluation.reading import (
    difference_to,
    main_cutoff,
    main_metric,
    metric_order,
    metric_title,
    number,
    ranked_systems,
    subject_name,
    winner,
)

SHOWN_AT_CUTOFF = ("ndcg", "recall", "precision", "f1", "map")

Results = Mapping[str, Any]


def report_sections(results: Results) -> list[Section]:
    """Arrange everything that was measured.

    Args:
        results: What `results.json` holds.

    Returns:
        Sections with at least one sentence, note, table or figure each.
    """
    makers: Sequence[Callable[[Results], Section | None]] = (
        _protocol,
        _systems,
        _tests,
        _differences,
        strata_section,
        shuffles_section,
        ablations_section,
        near_duplicates_section,
        lists_section,
        searches_section,
        training_section,
        audit_section,
    )
    return [section for maker in makers if (section := maker(results)) is not None]


def _protocol(results: Results) -> Section:
    return Section("protocol", "What was measured", notes=protocol_notes(results), folded=True)


def _systems(results: Results) -> Section:
    first = main_cutoff(results["protocol"]["cutoffs"])
    others = sorted(k for k in results["protocol"]["cutoffs"] if k != first)
    tables = [_systems_table(results, first, also=("mrr",))]
    tables += [_systems_table(results, k, caption=f"First {k} items") for k in others]
    return Section("systems", f"First {first} items", tables=tables, panels="systems")


def _systems_table(results: Results, k: int, also: Sequence[str] = (), caption: str = "") -> Table:
    names = ranked_systems(results, main_metric(results))
    measured = results["systems"][names[0]]
    metrics = [metric for metric in (*(f"{name}@{k}" for name in SHOWN_AT_CUTOFF), *also) if metric in measured]
    winners = {metric: winner(results, metric) for metric in metrics}
    rows = [
        [
            Cell(name),
            *(interval_cell(results["systems"][name].get(m), strong=winners[m] == name) for m in metrics),
        ]
        for name in names
    ]
    return Table(["system", *map(metric_title, metrics)], rows, caption, folded=bool(caption))


def _tests(results: Results) -> Section | None:
    if not _tested(results):
        return None
    best = results["best_baseline"]
    tables: list[Table] = []
    for metric in sorted(results["tests"], key=metric_order):
        systems = results["tests"][metric]
        names = sorted(systems, key=lambda name: (-systems[name]["value"], name))
        rows = [
            [
                Cell(f"{name} − {best}"),
                interval_cell(systems[name], signed=True),
                Cell(_p_value(systems[name]["p"])),
                Cell(_p_value(systems[name]["p_holm"])),
                Cell("–" if systems[name]["detectable"] is None else number(systems[name]["detectable"])),
            ]
            for name in names
        ]
        tables.append(
            Table(["difference", "mean", "p", "Holm p", "detectable"], rows, metric_title(metric), folded=bool(tables))
        )
    draws = results["protocol"].get("permutation_draws")
    text = [
        f"{best} is the baseline with the highest {metric_title(main_metric(results))} on these very targets. p is "
        f"that of a two-sided permutation test over users{f' ({draws:,} draws)' if draws else ''}; Holm p is "
        "corrected for the number of systems. Detectable is the smallest difference that a test of so many users "
        "finds in 80 of 100 cases: a smaller one may exist and stay unseen."
    ]
    return Section("tests", f"Against the best baseline, {best}", text, tables=tables, panels="differences")


def _tested(results: Results) -> bool:
    return bool(results.get("best_baseline") and results.get("tests"))


def _differences(results: Results) -> Section | None:
    subject = subject_name(results)
    others = [name for name in ranked_systems(results, main_metric(results)) if name != subject]
    if not others:
        return None
    metrics = [main_metric(results), main_metric(results, "recall"), "mrr"]
    rows = [
        [
            Cell(f"{subject} − {other}"),
            *(interval_cell(difference_to(results, subject, other, metric), signed=True) for metric in metrics),
        ]
        for other in others
    ]
    text = ["Each user is compared with itself. A difference whose interval holds zero may be chance."]
    table = Table(["difference", *map(metric_title, metrics)], rows)
    panels = "" if _tested(results) else "differences"
    return Section("differences", "Paired differences", text, tables=[table], panels=panels)


def _p_value(p: float) -> str:
    return "under 0.0001" if p < 0.0001 else f"{p:.4f}"
