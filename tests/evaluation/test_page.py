from __future__ import annotations

import json
import math
import re
from html.parser import HTMLParser

import pytest
from fake_results import MEANS, fake_results

from llmrec.evaluation.page import STYLE, results_page
from llmrec.evaluation.reading import ends, number

VOID = {"meta", "wbr", "br"}
KEYS = [
    *("protocol", "systems", "tests", "differences", "strata", "shuffles", "ablations", "near-duplicates", "lists"),
    *("searches", "training", "audit"),
]
HOSTILE = '"><script>alert(1)</script><img src=x onerror="alert(2)">&amp;'


class Reader(HTMLParser):
    """Tags with their attributes, text, and whether every element is closed in its order."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        assert len(dict(attrs)) == len(attrs), f"{tag} repeats an attribute"
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open and self.open.pop() == tag, f"</{tag}> closes another element"

    def handle_data(self, data):
        self.text.append(data)

    def values(self, name: str) -> list[str]:
        return [attributes[name] for _, attributes in self.tags if attributes.get(name) is not None]


@pytest.fixture(scope="module")
def results():
    return fake_results()


@pytest.fixture(scope="module")
def page(results):
    return results_page(results)


@pytest.fixture(scope="module")
def read(page):
    return Reader(page)


def test_the_page_is_whole_and_its_links_lead_somewhere(page, read):
    assert page.startswith('<!doctype html>\n<html lang="en">')
    assert read.open == []
    ids = read.values("id")
    assert len(set(ids)) == len(ids)
    pointed = [name for value in read.values("aria-labelledby") for name in value.split()]
    pointed += [value.removeprefix("#") for value in read.values("href")]
    pointed += re.findall(r"url\(#([^)]+)\)", page)
    assert set(pointed) <= set(ids)
    assert [a["id"] for tag, a in read.tags if tag == "section"] == KEYS
    assert read.values("href")[: len(KEYS)] == [f"#{key}" for key in KEYS]


def test_nothing_is_loaded_from_anywhere(page, read):
    assert not {tag for tag, _ in read.tags} & {"script", "link", "img", "iframe", "object", "image", "base", "form"}
    assert not [name for _, attributes in read.tags for name in attributes if name.startswith("on") or name == "src"]
    assert all(value.startswith("#") for value in read.values("href"))
    assert not re.search(r"@import|https?:|url\((?!#)", page)
    assert "default-src 'none'" in page
    assert len(page.encode()) < 500_000


def test_every_number_of_every_system_is_on_the_page(results, read):
    text = "".join(read.text)
    for system in results["systems"].values():
        for metric, row in system.items():
            if not metric.startswith("hit"):  # recall by another name
                assert f"{number(row['value'])} {ends(row)}" in text
    for rows in results["tests"].values():
        assert all(f"{number(row['value'], True)} {ends(row, True)}" in text for row in rows.values())
    assert "Subjectllmrec: adapter run" in text
    assert "dropout 0.2, learning_rate 0.001" in text


def test_tables_name_their_rows_and_columns(read):
    scopes = [attributes.get("scope") for tag, attributes in read.tags if tag == "th"]
    assert set(scopes) == {"row", "col"}
    boxes = [attributes for _, attributes in read.tags if attributes.get("class") == "scroll"]
    assert len(boxes) == sum(tag == "table" for tag, _ in read.tags)
    assert all(box["tabindex"] == "0" and box["role"] == "region" for box in boxes)


def test_figures_say_what_they_show_and_take_the_colours_of_the_page(page, read):
    drawings = re.findall(r"<svg.*?</svg>", page, flags=re.DOTALL)
    assert len(drawings) == 2 + 2 + 1 + 4 * 2 + 6  # means, differences, legend, strata, curves
    for drawing in drawings:
        assert re.search(r"<title[^>]*>[^<]+</title><desc[^>]*>[^<]+</desc>", drawing)
        assert 'role="img"' in drawing
        assert not re.search(r"#[0-9a-f]{6}|black|white|DejaVu|NaN|\bnan\b|<metadata|<style", drawing)
        assert {"var(--ink)", "var(--rule)"} & set(re.findall(r"var\(--\w+\)", drawing))
    assert "llmrec 0.1040 [0.0960, 0.1120]; content 0.0940" in drawings[0]
    named = set(re.findall(r"var\((--\w+)\)", page))
    assert named <= set(re.findall(r"(--\w+):", STYLE.read_text(encoding="utf-8")))


def test_light_and_dark_are_both_readable():
    """WCAG 2.2: contrast of 4.5 for text, 3 for what is drawn."""
    style = STYLE.read_text(encoding="utf-8")
    halves = style.split("prefers-color-scheme: dark")
    light, dark = (dict(re.findall(r"--(\w+): (#[0-9a-f]{6})", half)) for half in halves)
    assert light.keys() == dark.keys()

    def luminance(colour: str) -> float:
        parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    for palette in (light, dark):
        for name in ("ink", "quiet", "subject", "reference", "error", "warning", "other"):
            for ground in ("paper", "tint"):
                darker, lighter = sorted((luminance(palette[name]), luminance(palette[ground])))
                assert (lighter + 0.05) / (darker + 0.05) >= (3 if name == "other" else 4.5), (name, ground)


def test_equal_results_write_equal_bytes_in_whatever_order_they_are_stored(results, page):
    stored = json.loads(json.dumps(results, sort_keys=True))
    assert results_page(stored) == page


@pytest.mark.parametrize("names", [["popularity"], ["llmrec"], ["llmrec", "popularity"], list(MEANS)], ids=len)
def test_one_system_and_ten(names):
    results = fake_results(names)
    page = results_page(results)
    read = Reader(page)
    text = "".join(read.text)
    assert read.open == []
    assert all(f"{number(results['systems'][name]['mrr']['value'])}" in text for name in names)
    sections = [attributes["id"] for tag, attributes in read.tags if tag == "section"]
    assert ("differences" in sections) == ("tests" in sections) == (len(names) > 1)
    assert len(page.encode()) < 1_000_000
    assert not re.search(r"\bnan\b|\binf\b", page)


def test_a_system_without_a_hit_and_strata_without_a_target_are_drawn():
    results = fake_results(["llmrec", "popularity"])
    zero = {"value": 0.0, "low": 0.0, "high": 0.0}
    results["systems"]["popularity"] = dict.fromkeys(results["systems"]["popularity"], zero)
    for group in results["strata"][0]["groups"]:
        group |= {"num_cases": 0, "num_users": 0, "systems": {}, "differences": {}}
    page = results_page(results)
    assert "0 targets: nothing measured" in page
    assert "popularity 0.0000 [0.0000, 0.0000]" in page


def test_training_without_validation_shows_its_loss():
    results = fake_results(["llmrec"])
    results["training"]["llmrec"] = [{"epoch": 1.0, "loss": 3.25, "value": None}]
    page = results_page(results)
    assert "training loss, for want of validation" in page
    assert "epoch 1: 3.25" in page


def test_what_strangers_wrote_stays_text():
    results = fake_results(["llmrec", HOSTILE, "popularity"])
    results["strata"][0]["title"] = results["strata"][0]["groups"][0]["label"] = HOSTILE
    results["protocol"]["source"] = results["protocol"]["tie_rule"] = HOSTILE
    results["subject"] = {"name": HOSTILE, "model": HOSTILE, "base_model": HOSTILE, "adapter_sha256": HOSTILE}
    results["searches"] = {HOSTILE: {"metric": HOSTILE, "chosen": {HOSTILE: HOSTILE}, "trials": []}}
    results["audit"]["findings"][0] |= {"title": HOSTILE, "effect": HOSTILE, "examples": [{HOSTILE: HOSTILE}]}
    page = results_page(results)
    read = Reader(page)
    assert read.open == []
    assert not {tag for tag, _ in read.tags} & {"script", "img"}
    assert not [name for _, attributes in read.tags for name in attributes if name.startswith("on")]
    assert "".join(read.text).count(HOSTILE) > 20


def test_names_that_no_figure_can_hold_are_drawn_without_a_warning(recwarn):
    results = fake_results(["llmrec", "a\x00\nb$x_1$", "x" * 300])
    page = results_page(results)
    assert "a  b$x_1$ 0.0500" in page
    assert not [warning for warning in recwarn if "glyph" in str(warning.message).lower()]
    assert all(math.isfinite(float(width)) for width in re.findall(r'<svg viewBox="0 0 (\S+)', page))
