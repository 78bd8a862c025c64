"""Text that comes from outside, made safe to show: in a terminal, and within a line of Markdown."""

from __future__ import annotations

import re

CONTROL = re.compile(
    "[\x00-\x1f\x7f-\x9f"  # C0 and C1: escape codes, bells, carriage returns
    "\u061c\u202a-\u202e\u2066-\u2069"  # marks that turn the direction of the text around them
    "\u2028\u2029\ufeff\ud800-\udfff\U000e0000-\U000e007f]"  # line ends, byte order marks, lone surrogates, tags
)
MARKUP = re.compile(r"[\\`*~|]|\](?=\()|(?<![^\W_])_|_(?![^\W_])")


def printable(text: str, *, keep_lines: bool = False) -> str:
    r"""Write control characters as escapes, so that a terminal shows them instead of obeying them.

    Joiners and other characters of ordinary writing stay.

    Args:
        text: Any text, such as one read from somebody's file.
        keep_lines: Leave newlines and tabs as they are, for a text of several lines such as an error message.

    >>> print(printable("\x1b[31mred\n2"))
    \x1b[31mred\n2
    >>> print(printable("a\nb\x07", keep_lines=True))
    a
    b\x07
    """
    kept = "\n\t" if keep_lines else ""
    return CONTROL.sub(
        lambda found: found[0] if found[0] in kept else found[0].encode("unicode_escape").decode("ascii"), text
    )


def escape_markdown(text: str) -> str:
    r"""Make a text safe within a line of Markdown: no markup, no HTML, no cell border, no second line.

    An underscore within a word is no markup and stays, so that `item_knn` can be read and searched for.

    >>> print(escape_markdown("<b>a|b</b>\n *c* item_knn [d](e)"))
    &lt;b>a\|b&lt;/b> \*c\* item_knn [d\](e)
    """
    line = printable(" ".join(text.split())).replace("&", "&amp;").replace("<", "&lt;")
    return MARKUP.sub(r"\\\g<0>", line)
