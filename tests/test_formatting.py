"""Text from outside is shown, never obeyed: no escape code reaches a terminal, no markup a page."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from llmrec.formatting import escape_markdown, printable

HOSTILE = "<script>x</script> &lt; `a` | **b** ![c](http://d) [e](f) \x1b[31m \n\n# g \u202e ~~h~~ _i_ \\ j_k \ud800"
PAGE = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])


@given(st.text(max_size=60) | st.text(st.sampled_from("<>&`*_~|[]()!\\#-\n\r\t\x1b ab"), max_size=40))
def test_a_page_shows_any_text_as_it_is_in_one_cell(text: str) -> None:
    tokens = PAGE.parse(f"| a | b |\n|---|---|\n| {escape_markdown(text)} | end |\n")
    cells = [token for token in tokens if token.type == "inline"]
    assert len(cells) == 4 and cells[3].content == "end"
    assert {child.type for child in cells[2].children} <= {"text", "text_special"}
    shown = "".join(child.content for child in cells[2].children)
    assert shown == printable(" ".join(text.split()))


def test_hostile_text_keeps_its_words_and_loses_its_power() -> None:
    assert "<script" not in PAGE.render(escape_markdown(HOSTILE))
    assert escape_markdown("item_knn (10,000)") == "item_knn (10,000)"
    escape_markdown(HOSTILE).encode()


def test_a_terminal_gets_no_control_character() -> None:
    codes = [*range(0x20), *range(0x7F, 0xA0), 0x202E, 0x2028, 0xFEFF, 0xD800]
    for code in codes:
        shown = printable(f"a{chr(code)}b")
        assert shown.isascii() and shown.isprintable() and shown.encode().decode("unicode_escape") == f"a{chr(code)}b"
    assert printable("a\n\tb\r", keep_lines=True) == "a\n\tb\\r"
    family = "\U0001f469\u200d\U0001f467 میخواهم café"
    assert printable(family) == family


@pytest.mark.parametrize("sign", ["[", "](", "_", "\\", "\x1b", "<"])
def test_long_texts_take_no_more_than_linear_time(sign: str) -> None:
    start = time.perf_counter()
    escape_markdown(sign * 200_000)
    assert time.perf_counter() - start < 5
