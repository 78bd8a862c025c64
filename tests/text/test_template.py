from __future__ import annotations

import json
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmrec.text.template import PromptTemplate, field_names, prompts_folder, render, required_names


@pytest.mark.parametrize(
    ("pattern", "values", "text"),
    [
        ("{title}", {"title": "Heat"}, "Heat"),
        ("{title}", {}, ""),
        ("{title}[ by {brand}]", {"title": "Saw", "brand": "Acme"}, "Saw by Acme"),
        ("{title}[ by {brand}]", {"title": "Saw"}, "Saw"),
        ("{title}[ by {brand}]", {"title": "Saw", "brand": ""}, "Saw"),
        ("{title}[ | {brand}, {size}]", {"title": "Saw", "brand": "Acme"}, "Saw"),
        ("[{brand}: ]{title}", {"title": "Saw"}, "Saw"),
        ("[{brand}: ]{title}[, {gap}]", {"title": "Saw", "brand": "Acme", "gap": "weeks"}, "Acme: Saw, weeks"),
        ("{title}[ (sold)]", {"title": "Saw"}, "Saw (sold)"),
        ("{title}{title}", {"title": "ha"}, "haha"),
        ("a {title} b {brand} c", {"title": "x"}, "a x b c"),
    ],
)
def test_patterns_by_hand(pattern, values, text):
    assert render(pattern, values) == text


def test_white_space_of_pattern_and_value_is_squeezed():
    assert render("{title}   |\n{brand}", {"title": " a\tb\n\nc ", "brand": " "}) == "a b c |"


@pytest.mark.parametrize("value", ["{brand}", "[ by {brand}]", "]", "{", "{title.__class__}", "\\1 \\g<0>"])
def test_a_value_is_text_and_never_a_pattern(value):
    assert render("{title}[ by {brand}]", {"title": value, "brand": "Acme"}) == f"{value} by Acme"


NAMES = st.text(string.ascii_lowercase, min_size=1, max_size=5)
PARTS = st.one_of(
    st.text("ab ,|.", min_size=1, max_size=4).map(lambda text: (False, (), text)),
    NAMES.map(lambda name: (False, (name,), "{" + name + "}")),
    st.lists(NAMES, min_size=0, max_size=2).map(
        lambda names: (True, tuple(names), "[-" + "".join("{" + name + "}" for name in names) + "]")
    ),
)


@given(st.lists(PARTS, max_size=6), st.dictionaries(NAMES, st.text("xyz", max_size=3)))
def test_any_pattern_renders_as_its_parts_do(parts, values):
    pattern = "".join(text for _, _, text in parts)
    expected = ""
    for optional, names, text in parts:
        if optional and not all(values.get(name) for name in names):
            continue
        text = text[1:-1] if optional else text
        for name in names:
            text = text.replace("{" + name + "}", values.get(name, ""), 1)
        expected += text
    assert render(pattern, values) == " ".join(expected.split())
    assert field_names(pattern) == {name for _, names, _ in parts for name in names}
    assert required_names(pattern) == {name for optional, names, _ in parts if not optional for name in names}


@pytest.mark.parametrize(
    "pattern", ["[{title}", "{title}]", "{title", "title}", "[[{title}]]", "{{title}}", "]{title}["]
)
def test_unbalanced_patterns_are_refused(pattern):
    with pytest.raises(ValueError, match=r"unbalanced|never closed"):
        PromptTemplate(event=pattern)
    with pytest.raises(ValueError, match=r"unbalanced|never closed"):
        PromptTemplate(item=pattern)


@pytest.mark.parametrize("field", ["title.__class__", "title[0]", "0", "", "title!r", "title:>9", "a b", "self.x()"])
def test_only_bare_names_are_fields(field):
    with pytest.raises(ValueError, match=r"bare name|unbalanced"):
        PromptTemplate(event="{" + field + "}")


@pytest.mark.parametrize("pattern", ["bought something", "[ sold]"])
def test_a_pattern_without_placeholders_is_refused(pattern):
    with pytest.raises(ValueError, match=r"event pattern .* has no item field"):
        PromptTemplate(event=pattern)
    with pytest.raises(ValueError, match=r"item pattern .* has no item field"):
        PromptTemplate(item=pattern)


def test_an_event_may_have_no_words_but_an_item_must(tmp_path):
    template = PromptTemplate(event="", item="{title}[ | {brand}]")
    template.save(tmp_path)
    assert PromptTemplate.load(tmp_path) == template and template.fields == {"title", "brand"}
    with pytest.raises(ValueError, match=r"item pattern '' has no item field"):
        PromptTemplate(item="")


def test_time_alone_is_no_event():
    with pytest.raises(ValueError, match="every event would read the same"):
        PromptTemplate(event="{gap}")


def test_an_item_has_no_time():
    with pytest.raises(ValueError, match="which only events have"):
        PromptTemplate(item="{title}, {gap}")


@pytest.mark.parametrize("pattern", ["now: {title}", "now[: {gap}][ {verdict}]", "{weekday}[ {brand}]"])
def test_a_query_knows_nothing_but_the_time(pattern):
    with pytest.raises(
        ValueError, match=r"of what comes next only the time is known.*\nUse some of daypart, gap, week"
    ):
        PromptTemplate(query=pattern)
    assert PromptTemplate(query="now[: {gap}][, {weekday} {daypart}]").fields == {"title"}


def test_the_header_has_no_fields():
    with pytest.raises(ValueError, match="stands before any event"):
        PromptTemplate(header="History of {title}:")


@pytest.mark.parametrize("words", [0, -1, 1.5, "3", None, True])
def test_word_limits_are_whole_numbers(words):
    with pytest.raises(ValueError, match="whole number of words"):
        PromptTemplate(max_words={"title": words})


def test_a_word_limit_for_no_field_is_a_typo():
    with pytest.raises(ValueError, match="titel"):
        PromptTemplate(max_words={"titel": 3})


def test_fields_are_those_of_items():
    assert PromptTemplate(event="{title}[, {gap}]", item="{title}[ {brand}]").fields == {"title", "brand"}


def test_required_fields_must_be_among_the_items_columns():
    template = PromptTemplate(event="{title}[, {gap}]", item="{title}[ | {brand}]")
    template.check_fields({"title"})
    with pytest.raises(ValueError, match=r"event pattern .* needs \['title'\](.|\n)*They have: brand, name"):
        template.check_fields({"name", "brand"})
    with pytest.raises(ValueError, match="They have: no text at all"):
        template.check_fields(set())


@pytest.mark.parametrize("path", sorted(prompts_folder().glob("*.json")), ids=lambda path: path.stem)
def test_shipped_prompts_load_by_name_and_by_file(path):
    template = PromptTemplate.load(path.stem)
    assert template == PromptTemplate.load(path)
    assert template.fields


def test_some_prompt_is_shipped():
    assert PromptTemplate.load("default").event


def test_saved_templates_come_back(tmp_path):
    template = PromptTemplate(header="Käufe:", event="{title}[, {gap}]", item="{title}", max_words={"title": 3})
    template.save(tmp_path)
    assert PromptTemplate.load(tmp_path) == template
    assert PromptTemplate.load(tmp_path / "prompt.json") == template


def test_a_folder_without_a_template_hides_no_shipped_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "likes").mkdir()  # a data directory, say
    assert PromptTemplate.load("likes") == PromptTemplate.load(prompts_folder() / "likes.json")
    own = PromptTemplate(header="Own:", event="{title}", item="{title}")
    own.save(tmp_path / "likes")
    assert PromptTemplate.load("likes") == own


def test_a_template_that_is_not_there_names_the_shipped_ones(tmp_path):
    for name in ("no-such", str(tmp_path / "no.json"), tmp_path):
        with pytest.raises(FileNotFoundError, match=r"no template '.*(\n|.)*default"):
            PromptTemplate.load(name)


@pytest.mark.parametrize(
    "content",
    [
        "{not json",
        "[]",
        "null",
        '"{title}"',
        json.dumps({"event": "{title}", "question": "{title}"}),
        json.dumps({"event": 5}),
        json.dumps({"event": None}),
        json.dumps({"item": ["{title}"]}),
        json.dumps({"header": 1}),
        json.dumps({"query": ["{gap}"]}),
        json.dumps({"query": "[{gap}"}),
        json.dumps({"max_words": [1]}),
        json.dumps({"max_words": {"title": "many"}}),
        json.dumps({"event": "no field"}),
        json.dumps({"event": "{title.__class__}"}),
    ],
)
def test_files_that_are_no_template_are_refused(tmp_path, content):
    path = tmp_path / "prompt.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(ValueError):
        PromptTemplate.load(path)


def test_bytes_that_are_no_text_are_refused(tmp_path):
    path = tmp_path / "prompt.json"
    path.write_bytes(b'{"event": "\xff{title}"}')
    with pytest.raises(ValueError):
        PromptTemplate.load(path)
