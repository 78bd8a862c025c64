from __future__ import annotations

import re

import matplotlib.image
import numpy as np
import pytest
from fake_results import MEANS, fake_results, interval

from llmrec.evaluation.chart import draw_chart
from llmrec.evaluation.drawing import Group, Style, bands, curve, legend, whiskers
from llmrec.evaluation.panels import draw_panels, styles_of
from llmrec.evaluation.svg import OTHER, REFERENCE, SUBJECT, inline_svg

STYLES = {"llmrec": Style(SUBJECT, "o"), "lstm": Style(OTHER, "D")}
ROWS = {"llmrec": interval(0.2, 0.05), "lstm": {"value": 0.1, "low": 0.08, "high": 0.13}}


def drawn_at(figure) -> list[tuple[str, list[float], list[float]]]:
    """Colour, x and y of what was drawn inside the axes."""
    lines = figure.axes[0].get_lines()
    return [(line.get_color(), list(line.get_xdata()), list(line.get_ydata())) for line in lines]


def words(figure) -> list[str]:
    return [text.get_text() for text in figure.axes[0].texts]


def test_a_whisker_ends_where_the_interval_does():
    figure = whiskers(ROWS, STYLES, signed=False)
    assert drawn_at(figure) == [
        (SUBJECT, [pytest.approx(0.15), pytest.approx(0.25)], [0, 0]),
        (SUBJECT, [0.2], [0]),
        (OTHER, [0.08, 0.13], [1, 1]),
        (OTHER, [0.1], [1]),
    ]
    assert words(figure) == ["llmrec", "0.2000", "lstm", "0.1000"]
    assert figure.axes[0].get_xlim()[0] == 0
    assert figure.axes[0].get_ylim() == (1.5, -0.5)  # the first row on top


def test_differences_have_a_line_at_zero_within_the_axes():
    figure = whiskers({"llmrec": interval(0.02, 0.01)}, STYLES, signed=True)
    zero, *_ = drawn_at(figure)
    assert zero[1] == [0, 0]
    low, high = figure.axes[0].get_xlim()
    assert low < 0 < 0.03 < high
    assert words(figure) == ["llmrec", "+0.0200"]


def test_a_band_holds_its_systems_in_order_and_an_empty_one_nothing():
    groups = [Group("0", "3 targets", ROWS), Group("1–5", "0 targets", {"llmrec": None, "lstm": None})]
    figure = bands(groups, STYLES, band=40)
    dots = [line for line in drawn_at(figure) if len(line[1]) == 1]
    assert [colour for colour, _, _ in dots] == [SUBJECT, OTHER]
    first, second = (y for _, _, (y,) in dots)
    assert -0.5 < first < second < 0.5
    assert words(figure) == ["0", "3 targets", "1–5", "0 targets"]


def test_a_curve_names_its_best_epoch():
    figure = curve([(1, 0.1), (2, 0.3), (3, 0.2)], STYLES["llmrec"], best=1, top=0.6)
    line, ring = drawn_at(figure)
    assert line[1:] == ([1, 2, 3], [0.1, 0.3, 0.2])
    assert ring[1:] == ([2], [0.3])
    assert words(figure) == ["0.3000"]
    assert figure.axes[0].get_ylim() == (0, pytest.approx(0.66))


def test_ids_of_two_figures_never_meet():
    def drawn(name: str) -> str:
        return inline_svg(whiskers(ROWS, STYLES, signed=False), name, "NDCG & <MRR>", "shown")

    one, other = drawn("one"), drawn("other")
    assert one == drawn("one")
    assert "NDCG &amp; &lt;MRR&gt;" in one
    for text, name in ((one, "one"), (other, "other")):
        ids = re.findall(r'id="([^"]+)"', text)
        assert len(ids) == len(set(ids)) > 2
        assert all(part.startswith(f"{name}-") for part in ids)


def test_the_subject_and_the_best_baseline_have_colours_and_the_others_signs_of_their_own():
    styles = styles_of(fake_results(list(MEANS)))
    assert list(styles) == sorted(MEANS, key=lambda name: -MEANS[name])
    assert (styles["llmrec"].colour, styles["content"].colour) == (SUBJECT, REFERENCE)
    assert {style.colour for name, style in styles.items() if name not in ("llmrec", "content")} == {OTHER}
    assert len({style.marker for style in styles.values()}) == len(MEANS)
    assert words(legend(styles)) == list(styles)


def test_every_curve_of_values_shares_its_height():
    results = fake_results(["llmrec", "sasrec", "lstm"])
    panels = draw_panels(results)["training"]
    assert [panel.title for panel in panels] == ["llmrec", "sasrec", "lstm"]
    assert draw_panels({**results, "training": {}, "searches": None})["training"] == []


def test_the_chart_shows_its_subject_whatever_it_is_called(tmp_path):
    results = fake_results(["a$b_1$", "popularity"])
    draw_chart(results, tmp_path / "chart.png")
    picture = matplotlib.image.imread(tmp_path / "chart.png")
    subject = np.abs(picture[..., :3] - np.array([0x1F, 0x6F, 0x8B]) / 255).max(axis=-1) < 0.02
    assert subject.sum() > 1000
