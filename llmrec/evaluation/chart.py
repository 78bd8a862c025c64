"""The figure of an evaluation: a bar per system with its interval, from `results.json` alone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llmrec.evaluation.protocol import summary
from llmrec.evaluation.reading import main_metric, metric_title, ranked_systems, subject_name

SUBJECT_COLOUR = "#1f6f8b"
BASELINE_COLOUR = "#c3ccd3"
INK = "#24303a"
QUIET_INK = "#66737d"


def draw_chart(results: Mapping[str, Any], path: str | Path) -> None:
    """Draw NDCG and recall of every system side by side, best on top, as a PNG.

    Args:
        results: What `results.json` holds.
        path: File to write.
    """
    # Here and not at the top: matplotlib takes a second to import, and evaluation during training draws nothing.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    protocol = results["protocol"]
    metrics = [main_metric(results), main_metric(results, "recall")]
    subject = subject_name(results)
    names = ranked_systems(results, metrics[0])
    height = 0.46 * len(names)  # inches for the bars
    layout = ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.08, wspace=0.06)  # pads in inches
    figure = Figure(figsize=(9, height + 1.55), layout=layout, facecolor="white")
    FigureCanvasAgg(figure)
    for number, (panel, metric) in enumerate(zip(figure.subplots(1, 2, sharey=True), metrics, strict=True)):
        intervals = [results["systems"][name][metric] for name in names]
        values = [interval["value"] for interval in intervals]
        whiskers = [
            [max(0.0, interval["value"] - interval["low"]) for interval in intervals],
            [max(0.0, interval["high"] - interval["value"]) for interval in intervals],
        ]
        colours = [SUBJECT_COLOUR if name == subject else BASELINE_COLOUR for name in names]
        rows = range(len(names))
        panel.barh(rows, values, height=0.62, color=colours)
        panel.errorbar(values, rows, xerr=whiskers, fmt="none", ecolor=INK, elinewidth=1.2, capsize=3, capthick=1.2)
        for row, interval in zip(rows, intervals, strict=True):
            panel.annotate(
                f"{interval['value']:.3f}",
                (max(interval["high"], interval["value"]), row),
                xytext=(6, 0),
                textcoords="offset points",
                va="center",
                fontsize=10,
                color=INK,
            )
        panel.set_title(metric_title(metric), loc="left", fontsize=12, fontweight="bold", color=INK)
        panel.set_yticks(rows, [name.replace("_", " ") for name in names], fontsize=11, color=INK, parse_math=False)
        panel.set_ylim(len(names) - 0.4, -0.6)
        panel.set_xlim(0, 1.16 * max([interval["high"] for interval in intervals] + values) or 1)
        panel.locator_params(axis="x", nbins=5)
        panel.tick_params(axis="both", length=0, labelcolor=QUIET_INK)
        panel.tick_params(axis="y", labelcolor=INK, labelleft=number == 0)
        panel.grid(axis="x", color="#e6eaed", linewidth=0.8)
        panel.set_axisbelow(True)
        panel.spines[["top", "right", "bottom"]].set_visible(False)
        panel.spines["left"].set_color(QUIET_INK)
    figure.supxlabel(
        f"{summary(protocol)}\nmean over users; whiskers: {protocol['confidence']:.0%} bootstrap interval over users",
        fontsize=9,
        color=QUIET_INK,
    )
    figure.savefig(path, dpi=160, metadata={"Software": None})
