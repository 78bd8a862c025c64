"""The audit of a split data set: every check, what each found, and the number it moves.

An audit reads events, splits and item texts, and changes none of them. It proves that a leak is there; it does not
prove that none is.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from llmrec.data import audit_counts, audit_repeats, audit_time
from llmrec.data.audit_page import audit_page
from llmrec.data.catalog import Catalog
from llmrec.data.findings import SEVERITIES, TITLES, Finding
from llmrec.data.near_duplicates import near_duplicate_items
from llmrec.data.split_events import SplitEvents
from llmrec.storage import write_texts

FORMAT_VERSION = 1

ON_ORDER: tuple[Callable[[SplitEvents], Finding], ...] = (
    audit_time.future_training_events,
    audit_time.simultaneous_training_events,
    audit_time.no_clock,
    audit_counts.cold_targets,
    audit_counts.cold_users,
    audit_counts.items_core_fitted_on_test,
    audit_counts.users_core_fitted_on_test,
    audit_repeats.exact_duplicates,
    audit_repeats.identical_events_across_splits,
    audit_repeats.repeated_test_pairs,
    audit_repeats.seen_targets,
    audit_repeats.repeat_events,
    audit_repeats.tied_events,
    audit_repeats.ambiguous_targets,
)
"""Checks that need no more than each user's order."""
ON_CLOCK: tuple[Callable[[SplitEvents], Finding], ...] = (
    audit_time.training_after_test_starts,
    audit_time.targets_known_only_later,
    audit_time.future_items,
    audit_time.coarse_clock,
)
"""Checks that compare the times of different users."""


def audit(data: SplitEvents, catalog: Catalog | None = None) -> dict[str, Any]:
    """Run every check.

    Args:
        data: Events and their splits.
        catalog: Items with their texts; None leaves out the check of near-duplicate texts.

    Returns:
        What audit.json holds: `findings` (those with a count, errors first), `passed` (checks that found nothing),
        `skipped` (checks that this data cannot answer, with the reason), `counts` and the kind of split and clock.
    """
    skipped: dict[str, str] = {}
    if data.kind == "users":
        skipped["users_core_fitted_on_test"] = "the split leaves held-out users without training events on purpose"
    results = [check(data) for check in ON_ORDER if check.__name__ not in skipped]
    if data.clock == "utc":
        results += [check(data) for check in ON_CLOCK]
    else:
        skipped |= {check.__name__: "the times count events" for check in ON_CLOCK}
    if catalog is not None:
        results.append(near_duplicate_items(data, catalog))
    else:
        skipped["near_duplicate_items"] = "no table of items"
    order = list(TITLES)
    results.sort(key=lambda finding: (SEVERITIES.index(finding.severity), order.index(finding.name)))
    passed = sorted((finding.name for finding in results if not finding.count), key=order.index)
    return {
        "format_version": FORMAT_VERSION,
        "split_kind": data.kind,
        "clock": data.clock,
        "counts": {**data.counts(), "catalogue": None if catalog is None else len(catalog)},
        "findings": [finding.as_dict() for finding in results if finding.count],
        "passed": [{"name": name, "title": TITLES[name]} for name in passed],
        "skipped": [
            {"name": name, "title": TITLES[name], "reason": skipped[name]} for name in sorted(skipped, key=order.index)
        ],
    }


def write_audit(folder: Path, result: dict[str, Any]) -> None:
    """Write audit.json and audit.md into a folder, both or neither."""
    text = json.dumps(result, indent=2, ensure_ascii=False) + "\n"
    write_texts(folder, {"audit.json": text, "audit.md": audit_page(result)})
