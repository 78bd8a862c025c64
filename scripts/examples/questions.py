"""The text of a few-shot question: titles liked, titles disliked, and the one to judge.

    User Preference: "Heat (1995)", "Matrix, The (1999)"
    User Unpreference: "Batman & Robin (1997)"
    Whether the user will like the target movie "Ronin (1998)"?

Either list may be empty or left out; a book's title is followed by `written by` and its author.
"""

from __future__ import annotations

import re

from llmrec.data.attributes import clean_text

Item = tuple[str, str | None]
"""Title, and author where there is one."""

INPUT = re.compile(
    r"\s*(?:User Preference:(?P<liked>.*)\n)?\s*?(?:User Unpreference:(?P<disliked>.*)\n)?"
    r"\s*Whether the user will like the target \w+ (?P<target>.*)\?\s*",
    re.IGNORECASE,
)
AUTHOR = r"\s*written by\s*(?P<author>.*?)"
BETWEEN = re.compile(rf'(?<!\\)"(?:{AUTHOR})?\s*,\s*(?=")')
"""The end of one item and the comma before the next: a comma or a quotation mark inside a title is neither."""
ITEM = re.compile(rf'"(?P<title>.*?)"(?:{AUTHOR})?')
WRAPPED = re.compile(rf'"(".*"{AUTHOR})"')


def titles_of(text: str) -> list[Item]:
    r"""Read a list of quoted titles, each perhaps with an author.

    Titles may hold commas and quotation marks, escaped by a backslash or not. Does not tell a title that holds `", "`
    from two titles.

    Returns:
        Title and author, None where there is none, in order.

    Raises:
        ValueError: The text is no such list.

    >>> titles_of('"Matrix, The (1999)", "\\"Weird Al\\" Show"')
    [('Matrix, The (1999)', None), ('"Weird Al" Show', None)]
    >>> titles_of('"East, West" written by Salman Rushdie, "Sula" written by Toni Morrison'), titles_of(" ")
    ([('East, West', 'Salman Rushdie'), ('Sula', 'Toni Morrison')], [])
    """
    text = text.strip()
    if text in ("", "None"):
        return []
    ends = [match.end() for match in BETWEEN.finditer(text)]
    pieces = [text[start:end] for start, end in zip([0, *ends], [*ends, None], strict=True)]
    titles = []
    for piece in pieces:
        found = ITEM.fullmatch(piece.strip().removesuffix(",").strip())
        title = found and clean_text(found["title"].replace('\\"', '"'))
        if found is None or title is None:
            raise ValueError(f'expected titles as "A", "B" and found {piece.strip()!r}')
        titles.append((title, clean_text(found["author"] or "")))
    return titles


def question_of(text: str) -> tuple[list[Item], list[Item], Item]:
    """Read an input: what was liked, what was disliked, and the item to judge.

    Raises:
        ValueError: It does not read as such an input.

    >>> question_of('User Preference: "Heat"\\nWhether the user will like the target movie "Ronin"?')
    ([('Heat', None)], [], ('Ronin', None))
    """
    found = INPUT.fullmatch(text)
    if found is None:
        raise ValueError(
            "expected 'User Preference: …', 'User Unpreference: …' and 'Whether the user will like the target movie "
            f"…?', a line each, and found {text[:80]!r}"
        )
    wrapped = WRAPPED.fullmatch(found["target"])  # the published books quote title and author once more
    targets = titles_of(wrapped[1] if wrapped else found["target"])
    if len(targets) != 1:
        raise ValueError(f"expected one title to judge and found {found['target']!r}")
    return titles_of(found["liked"] or ""), titles_of(found["disliked"] or ""), targets[0]
