"""The report of one evaluation: four files in one folder.

`results.json` holds what was measured and under which protocol, `per_user.parquet` what every user contributed;
`results.md` and `results.png` are drawn from the JSON alone and can be drawn again from it:

    write_views(read_results(folder), folder)
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from llmrec.data.directory import MANIFEST, DataDirectory, sha256_of
from llmrec.evaluation.cases import Cases
from llmrec.evaluation.chart import draw_chart
from llmrec.evaluation.evaluator import metric_columns
from llmrec.evaluation.intervals import CONFIDENCE, DRAWS, SEED, bootstrap_means, percentile_interval, user_means
from llmrec.evaluation.metrics import CUTOFFS
from llmrec.evaluation.table import results_table
from llmrec.ranking.ranks import TIE_RULE


def describe_protocol(
    data: DataDirectory,
    cases: Cases,
    mask_seen: bool,
    cutoffs: Sequence[int] = CUTOFFS,
    draws: int = DRAWS,
    seed: int = SEED,
) -> dict[str, Any]:
    """Say what every number depends on besides the system: data, split, mask, tie rule, intervals."""
    return {
        "split_kind": data.manifest["split"]["kind"],
        "split": cases.split,
        "num_items": cases.num_items,
        "num_users": len(cases.users),
        "num_users_drawn_from": cases.num_users_drawn_from,
        "num_cases": len(cases),
        "num_cases_without_history": cases.num_without_history,
        "mask_seen": mask_seen,
        "repeated_target_share": float(cases.repeated.mean()),
        "tied_event_share": cases.tied_event_share,
        "tie_rule": TIE_RULE,
        "cutoffs": list(cutoffs),
        "confidence": CONFIDENCE,
        "bootstrap_draws": draws,
        "bootstrap_seed": seed,
        "manifest_sha256": sha256_of(data.path / MANIFEST),
    }


def build_results(protocol: Mapping[str, Any], per_user: Mapping[str, pl.DataFrame]) -> dict[str, Any]:
    """Summarise every system and compare every pair of systems on the same bootstrap draws.

    Args:
        protocol: From `describe_protocol`; names the draws and their seed.
        per_user: For each system its table of `user_metrics`, all of the same users.

    Returns:
        `protocol`; `systems[name][metric]` with `value`, `low`, `high`; and `comparisons[name][other][metric]`, the
        paired difference name - other over users, likewise.

    Raises:
        ValueError: If there is no system, or the tables differ in users, cases or metrics.
    """
    if not per_user:
        raise ValueError("no system to report: give at least one table of per-user metrics")
    reference_name, reference = next(iter(per_user.items()))
    metrics = metric_columns(reference)
    for name, table in per_user.items():
        if table.columns != reference.columns or not table.select("user_id", "num_targets").equals(
            reference.select("user_id", "num_targets")
        ):
            raise ValueError(
                f"systems {reference_name!r} and {name!r} were not evaluated on the same users, targets and metrics: "
                "evaluate both on one set of cases"
            )
    values, draws = {}, {}
    for name, table in per_user.items():
        matrix = table.select(metrics).to_numpy()
        values[name] = user_means(matrix)
        draws[name] = bootstrap_means(matrix, protocol["bootstrap_draws"], protocol["bootstrap_seed"])

    def summary(means: np.ndarray, drawn: np.ndarray) -> dict[str, dict[str, float]]:
        low, high = percentile_interval(drawn, protocol["confidence"])
        rows = zip(metrics, means.tolist(), low.tolist(), high.tolist(), strict=True)
        return {metric: {"value": value, "low": bottom, "high": top} for metric, value, bottom, top in rows}

    # The mean of a difference is the difference of means, draw by draw, since all systems share the draws.
    return {
        "protocol": dict(protocol),
        "systems": {name: summary(values[name], draws[name]) for name in per_user},
        "comparisons": {
            name: {
                other: summary(values[name] - values[other], draws[name] - draws[other])
                for other in per_user
                if other != name
            }
            for name in per_user
        },
    }


def write_report(results: Mapping[str, Any], per_user: Mapping[str, pl.DataFrame], output_dir: str | Path) -> None:
    """Write `results.json`, `per_user.parquet`, `results.md` and `results.png`, replacing those of an earlier run.

    All four are finished beside their places before the first is moved there, so a failure leaves the folder as it was.

    Args:
        results: From `build_results`.
        per_user: For each system its table of `user_metrics`.
        output_dir: Created if missing.

    Raises:
        PermissionError: If the folder cannot be written.
        ValueError: If a number is not finite, which JSON cannot hold.
    """
    table = pl.concat(
        frame.select(pl.lit(name, dtype=pl.String).alias("system"), pl.all())
        for name, frame in sorted(per_user.items())
    )
    text = json.dumps(results, indent=2, sort_keys=True, allow_nan=False, ensure_ascii=False) + "\n"
    with _staged_files(output_dir) as folder:
        (folder / "results.json").write_text(text, encoding="utf-8")
        table.write_parquet(folder / "per_user.parquet")
        _draw_views(results, folder)


def write_views(results: Mapping[str, Any], output_dir: str | Path) -> None:
    """Write `results.md` and `results.png` again from the results alone."""
    with _staged_files(output_dir) as folder:
        _draw_views(results, folder)


def check_report_folder(output_dir: str | Path) -> None:
    """Create the output folder and see that files can be written there, before hours of work depend on it.

    Raises:
        PermissionError: If they cannot.
    """
    with _staged_files(output_dir):
        pass


def read_results(output_dir: str | Path) -> dict[str, Any]:
    """Read the `results.json` of a folder.

    Raises:
        FileNotFoundError: If the folder holds none.
    """
    path = Path(output_dir) / "results.json"
    if not path.is_file():
        raise FileNotFoundError(f"{str(path)!r} does not exist: evaluate a model into this folder first")
    return json.loads(path.read_text(encoding="utf-8"))


def _draw_views(results: Mapping[str, Any], folder: Path) -> None:
    (folder / "results.md").write_text(results_table(results), encoding="utf-8")
    draw_chart(results, folder / "results.png")


@contextmanager
def _staged_files(output_dir: str | Path) -> Iterator[Path]:
    """Yield a folder inside the output folder whose files move up together when the block ends without an error."""
    target = Path(output_dir)
    try:
        target.mkdir(parents=True, exist_ok=True)
        staging = tempfile.TemporaryDirectory(prefix=".report-", dir=target)
    except OSError as error:
        raise PermissionError(
            f"output_dir {str(output_dir)!r} cannot be written ({error.strerror}): choose a folder that can"
        ) from None
    with staging as folder:
        yield Path(folder)
        for path in sorted(Path(folder).iterdir()):
            os.replace(path, target / path.name)
