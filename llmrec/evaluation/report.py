"""The report of one evaluation: a few files in one folder.

`results.json` holds what was measured and under which protocol, `per_user.parquet` what every user contributed and
`per_case.parquet` the rank of every target; `results.md`, `results.html` and `results.png` are drawn from the JSON
alone and can be drawn again from it (`llmrec redraw`):

    write_views(read_results(folder), folder)
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from llmrec.data.cases import Cases
from llmrec.evaluation.chart import draw_chart
from llmrec.evaluation.evaluator import Ranking
from llmrec.evaluation.page import results_page
from llmrec.evaluation.strata import Stratum
from llmrec.evaluation.table import results_table
from llmrec.storage import check_writable, finish, replaced_together

RESULTS = "results.json"


def write_report(
    results: Mapping[str, Any], per_user: Mapping[str, pl.DataFrame], per_case: pl.DataFrame, output_dir: str | Path
) -> None:
    """Write all files of the report, replacing those of an earlier run.

    They are replaced together: a failure leaves the folder as it was, and no reader finds old files beside new ones.

    Args:
        results: From `results.build_results`, with further sections where there are any.
        per_user: For each system its table of `user_metrics`.
        per_case: From `case_table`.
        output_dir: Created if missing.

    Raises:
        PermissionError: If the folder cannot be written.
        ValueError: If a number is not finite, which JSON cannot hold.
    """
    users = pl.concat(
        frame.select(pl.lit(name, dtype=pl.String).alias("system"), pl.all())
        for name, frame in sorted(per_user.items())
    )
    text = json.dumps(results, indent=2, sort_keys=True, allow_nan=False, ensure_ascii=False) + "\n"
    with replaced_together(Path(output_dir)) as folder:
        (folder / RESULTS).write_text(text, encoding="utf-8")
        users.write_parquet(folder / "per_user.parquet")
        per_case.write_parquet(folder / "per_case.parquet")
        _draw_views(results, folder)


def case_table(
    cases: Cases, rankings: Mapping[str, Ranking], strata: Sequence[Stratum], item_ids: Sequence[str]
) -> pl.DataFrame:
    """Return one row per case: `user_id`, `position`, the target's `item_id`, its strata, and its rank by each system.

    Args:
        cases: What was ranked.
        rankings: For each system what was recorded of the cases.
        strata: Ways in which the cases were parted.
        item_ids: The catalogue's ids, (N,).
    """
    columns: dict[str, Any] = {
        "user_id": [cases.users[user] for user in cases.user],
        "position": cases.position,
        "item_id": [item_ids[target] for target in cases.targets],
    }
    columns |= {stratum.name: [stratum.labels[group] for group in stratum.group] for stratum in strata}
    columns |= {f"rank_{name}": ranking.ranks for name, ranking in rankings.items()}
    return pl.DataFrame(columns)


def write_views(results: Mapping[str, Any], output_dir: str | Path) -> None:
    """Write `results.md`, `results.html` and `results.png` again from the results alone.

    Raises:
        ValueError: If the folder holds other results.
    """

    def check(_: Path) -> None:
        if (Path(output_dir) / RESULTS).is_file() and read_results(output_dir) != results:
            raise ValueError(
                f"output_dir {str(output_dir)!r} holds other results than those that are drawn;\n"
                "draw again from the results that are there, or give another folder"
            )

    with replaced_together(Path(output_dir), before=check) as folder:
        _draw_views(results, folder)


def check_report_folder(output_dir: str | Path) -> None:
    """Create the output folder and see that files can be written there, before hours of work depend on it.

    Raises:
        PermissionError: If they cannot.
    """
    try:
        Path(output_dir).mkdir(parents=True, exist_ok=True)
        check_writable(output_dir)
    except OSError as error:
        raise PermissionError(
            f"output_dir {str(output_dir)!r} cannot be written ({error.strerror}): choose a folder that can"
        ) from None


def read_results(output_dir: str | Path) -> dict[str, Any]:
    """Read the `results.json` of a folder.

    Raises:
        FileNotFoundError: If the folder holds none.
    """
    path = Path(output_dir) / RESULTS
    finish(path.parent)
    if not path.is_file():
        raise FileNotFoundError(f"{str(path)!r} does not exist: evaluate a model into this folder first")
    return json.loads(path.read_text(encoding="utf-8"))


def _draw_views(results: Mapping[str, Any], folder: Path) -> None:
    (folder / "results.md").write_text(results_table(results), encoding="utf-8")
    (folder / "results.html").write_text(results_page(results), encoding="utf-8")
    draw_chart(results, folder / "results.png")
