from __future__ import annotations

import re

import pytest
from fake_results import MEANS, fake_results, interval
from hypothesis import given
from hypothesis import strategies as st

from llmrec.evaluation.page import results_page
from llmrec.evaluation.reading import ends, number, reference_name, subject_name, verdict
from llmrec.evaluation.sections import report_sections
from llmrec.evaluation.table import headline, results_table

OPTIONAL = {  # key of results.json -> the section that stands on it
    "tests": "Against the best baseline, content",
    "strata": "By kind of target",
    "shuffles": "Shuffled histories",
    "ablations": "Without reading, time or order",
    "near_duplicates": "Items of the same text",
    "lists": "The lists themselves",
    "searches": "Search of the baselines",
    "audit": "Audit of the data",
}
ALWAYS = ["What was measured", "First 10 items", "Paired differences"]


def headings(text: str) -> list[str]:
    return re.findall(r"^## (.*)$", text, flags=re.MULTILINE)


def cells_of(text: str, start: str) -> list[str]:
    row = next(line for line in text.splitlines() if line.startswith(f"| {start} |"))
    return [cell.strip() for cell in row.strip("|").split("|")]


@pytest.fixture
def results():
    return fake_results()


def test_every_section_stands_in_its_order(results):
    first, second, *rest = [*ALWAYS[:2], OPTIONAL["tests"], ALWAYS[2], *list(OPTIONAL.values())[1:]]
    assert headings(results_table(results)) == [first, second, *rest]


@pytest.mark.parametrize("key", OPTIONAL)
@pytest.mark.parametrize("empty", ["absent", None, {}])
def test_what_was_not_measured_is_left_out(results, key, empty):
    whole = results_table(results)
    if empty == "absent":
        del results[key]
    else:
        results[key] = empty
    assert headings(results_table(results)) == [title for title in headings(whole) if title != OPTIONAL[key]]


@pytest.mark.parametrize("show", [headline, results_table, results_page])
def test_what_a_mask_makes_impossible_stands_in_the_headline(results, show):
    """Before the first section, in the terminal before the table; what is said of the mask's opposite too."""

    def head(**protocol) -> str:
        results["protocol"] |= protocol
        return re.split(r"<section|\n## |\n\| system", show(results))[0]

    impossible = "43% of the targets, seen before, cannot be hit"
    assert impossible in head(mask_seen=True, repeated_target_share=0.43)
    assert "cannot be hit" not in head(mask_seen=True, repeated_target_share=0.0)
    found = head(mask_seen=False, repeated_target_share=0.43)
    assert "seen items kept" in found and "cannot be hit" not in found and "Seen items are kept here" not in found
    assert "trained or chosen" not in head(mask_seen_of={"llmrec": False, "sasrec": False})
    found = head(mask_seen=True, mask_seen_of={"llmrec": False, "sasrec": False, "lstm": True})
    assert "Seen items are masked here, but llmrec, sasrec were trained or chosen for rankings with seen items" in found


def test_an_older_report_is_read(results):
    new = {"source", "targets", "num_cold_items", "cold_target_share", "permutation_draws", "seed"}
    protocol = {key: value for key, value in results["protocol"].items() if key not in new}
    old = {"protocol": {**protocol, "bootstrap_seed": 7}, "systems": results["systems"]}
    text = results_table({**old, "comparisons": results["comparisons"]})
    assert headings(text) == ALWAYS
    assert "2,000 draws, seed 7" in text
    assert "None" not in text


def test_every_number_of_every_system_stands_there(results):
    text = results_table(results)
    for name, system in results["systems"].items():
        for metric, row in system.items():
            if not metric.startswith("hit"):  # recall by another name
                value, low_high = re.escape(number(row["value"])), re.escape(ends(row))
                assert re.search(rf"^\| {name} \|.*\*{{0,2}}{value}\*{{0,2}} {low_high}", text, flags=re.MULTILINE)


def test_a_row_against_the_best_baseline(results):
    results["tests"]["ndcg@10"]["lstm"] = {
        **interval(-0.0101, 0.002), "p": 0.00001, "p_holm": 0.0499, "detectable": None
    }  # fmt: skip
    assert cells_of(results_table(results), "lstm − content") == [
        *("lstm − content", "−0.0101 [−0.0121, −0.0081]", "under 0.0001", "0.0499", "–")
    ]


def test_a_stratum_has_groups_as_rows_and_systems_as_columns():
    results = fake_results(["llmrec", "content", "lstm"])
    groups = results["strata"][3]["groups"]
    text = results_table(results)
    assert cells_of(text, "User in training") == [
        *("User in training", "targets", "users", "llmrec", "content", "lstm", "llmrec − content")
    ]
    assert cells_of(text, "new") == ["new", "0", "0", "–", "–", "–", "–"]
    values = [number(groups[1]["systems"][name]["ndcg@10"]["value"]) for name in ("llmrec", "content", "lstm")]
    difference = groups[1]["differences"]["llmrec"]["ndcg@10"]
    difference_cell = f"{number(difference['value'], True)} {ends(difference, True)}"
    assert cells_of(text, "known") == ["known", "800", "800", *values, difference_cell]


def test_shuffles_show_the_change_with_its_interval():
    results = fake_results(["llmrec", "sasrec"])
    rows = results_table(results).split("## Shuffled histories")[1]
    llmrec, sasrec = cells_of(rows, "llmrec"), cells_of(rows, "sasrec")
    assert llmrec[1:4] == ["0.1040", "0.0920", "−0.0120 [−0.0160, −0.0080]"]
    assert llmrec[4:] == ["0.1043", "+0.0003 [−0.0037, +0.0043]"]
    assert sasrec[4:] == ["–", "–"]


@given(lows=st.lists(st.floats(-0.05, 0.05), min_size=3, max_size=3))
def test_bold_exactly_where_the_interval_against_every_other_lies_above_zero(lows):
    names = ["llmrec", "content", "sasrec", "lstm"]
    results = fake_results(names)
    for other, low in zip(names[1:], lows, strict=True):
        for metric in results["comparisons"]["llmrec"][other]:
            results["comparisons"]["llmrec"][other][metric] = {"value": low + 0.01, "low": low, "high": low + 0.02}
            results["comparisons"][other]["llmrec"][metric] = {"value": -low - 0.01, "low": -1.0, "high": -low}
    wins = all(low > 0 for low in lows)
    systems = next(section for section in report_sections(results) if section.key == "systems")
    for table in systems.tables:
        for name, *cells in table.rows:
            assert all(cell.strong == (wins and name.text == "llmrec") for cell in cells)
    assert ("**0." in results_table(results)) == wins


def test_a_best_baseline_may_win_too(results):
    for other in results["systems"]:
        if other != "sasrec":
            results["comparisons"]["sasrec"][other]["mrr"] = interval(0.1, 0.01)
    results["comparisons"]["llmrec"]["sasrec"]["mrr"] = interval(-0.1, 0.01)
    last = {name: cells_of(headline(results), name)[-1] for name in results["systems"]}  # MRR
    assert [name for name, cell in last.items() if cell.startswith("**")] == ["sasrec"]


@pytest.mark.parametrize(
    ("low", "high", "reading"),
    [(0.001, 0.02, "lies above zero"), (-0.02, -0.001, "lies below zero"), (-0.001, 0.02, "is not larger than its")],
)
def test_the_verdict_claims_nothing_within_the_interval(results, low, high, reading):
    results["comparisons"]["llmrec"]["content"]["ndcg@10"] = {"value": (low + high) / 2, "low": low, "high": high}
    assert reading in verdict(results)
    assert f"content, the best of the {len(results['systems']) - 1} others, has 0.0940" in verdict(results)


def test_subject_and_reference():
    results = fake_results()
    assert (subject_name(results), reference_name(results)) == ("llmrec", "content")
    assert subject_name({**results, "subject": {"name": "sasrec"}}) == "sasrec"
    assert subject_name({**results, "subject": {"name": "gone"}}) == "llmrec"
    baselines = fake_results(["lstm", "sasrec"])
    assert (subject_name(baselines), reference_name(baselines)) == ("sasrec", "sasrec")
    assert reference_name({**baselines, "best_baseline": None}) == "lstm"
    assert reference_name(fake_results(["llmrec"])) is None


def test_the_protocol_says_who_was_asked_and_who_answered():
    results = fake_results()
    text = results_table(results)
    subject = "llmrec: adapter run (weights 8f14e45fceea) on sentence-transformers/all-MiniLM-L6-v2"
    assert f"- **Subject:** {subject}, popularity weight 0.25 (saved with 1.0)." in text
    assert "315 items have no training event; 3.5% of the targets are among them" in text
    assert "no targets" not in text
    first = {**results["protocol"], "targets": "first", "num_users_drawn_from": 9000}
    text = results_table({**results, "protocol": first})
    assert "3,285 users (a sample of 9,000), test split (leave-one-out)" in text
    assert "Items that the user had had before are no targets." in text
    assert "Bold" not in results_table(fake_results(["llmrec"]))


@pytest.mark.parametrize("names", [["popularity"], list(MEANS)], ids=len)
def test_tables_keep_their_columns_whatever_they_hold(names):
    hostile = "<script>a|b*c*`d`[e](f)\n# g</script>"
    results = fake_results([*names, hostile])
    results["audit"]["findings"][0] |= {"title": hostile, "examples": [{"title": hostile}]}
    results["strata"][0]["groups"][0]["label"] = hostile
    text = results_table(results)
    assert "<script" not in text
    assert "\n# g" not in text
    tables = re.findall(r"(?:^\|.*\|\n)+", text, flags=re.MULTILINE)
    assert len(tables) > 10
    for table in tables:
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}) == 1


def test_the_headline_is_the_start_of_the_page(results):
    text = headline(results)
    assert text.startswith(verdict(results))
    assert cells_of(text, "llmrec") == cells_of(results_table(results), "llmrec")
    assert text.count("\n| ") == 2 + len(results["systems"])
