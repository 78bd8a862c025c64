"""Tables and requests broken in many ways, drawn by a seed: what a user's file may hold."""

from __future__ import annotations

import gzip
import json
import math
import random
import zlib
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import polars as pl

START = 1_600_000_000
ODD_TEXTS = [
    *("", " ", "\x00", "a\x00b", "\x1b[31m", "\u202eabc", "a,b", 'say "hi"', "a\nb", "\ufeff", "nan", "null", "-1"),
    *("9" * 40, "1e400", "-0.0", "<!--", "&amp;" * 50, "日本語", "🎬", "x" * 5_000, "inf", "0x10", "1_000"),
]
ODD_VALUES: list[Any] = [
    *(None, True, False, 0, -1, 2**31, 2**63, 2**64, 10**30, 1.5, -0.0, 1e300, [], [1], ["a", None], {}, {"a": 1}),
    *([[["deep"]]], {"a": {"b": [1]}}, *ODD_TEXTS),
]
SURROGATE = "\ud800"


def sound_rows() -> list[dict[str, Any]]:
    """Thirty events of five users and six items."""
    return [
        {
            "user_id": f"u{row % 5}",
            "item_id": f"i{row * 7 % 6}",
            "timestamp": START + 1_000 * row,
            "title": f"T{row * 7 % 6}",
        }
        for row in range(30)
    ]


def table_bytes(rows: list[dict[str, Any]], ending: str) -> bytes:
    """The rows as a file of this ending; values that it cannot hold become texts."""
    if ending == "jsonl":
        return "\n".join(json.dumps(row) for row in rows).encode()
    names = list(dict.fromkeys(name for row in rows for name in row))
    if ending == "parquet":
        import io

        buffer = io.BytesIO()
        frame(rows, names).write_parquet(buffer)
        return buffer.getvalue()
    lines = [",".join(names), *(",".join(quoted(row.get(name)) for name in names) for row in rows)]
    content = "\n".join(lines).encode("utf-8", "surrogatepass")
    return gzip.compress(content, mtime=0) if ending == "csv.gz" else content


def frame(rows: list[dict[str, Any]], names: list[str]) -> pl.DataFrame:
    columns = {}
    for name in names:
        values = [row.get(name) for row in rows]
        try:
            columns[name] = pl.Series(name, values)
        except (TypeError, ValueError, OverflowError, pl.exceptions.PolarsError):
            columns[name] = pl.Series(name, [None if value is None else ascii(value) for value in values])
    return pl.DataFrame(columns)


def quoted(value: Any) -> str:
    text = "" if value is None else str(value)
    return '"' + text.replace('"', '""') + '"' if set(text) & set(',"\n\r') else text


def spoil_rows(draw: random.Random, rows: list[dict[str, Any]]) -> None:
    """Put odd values into some cells, or into a whole column."""
    name = draw.choice(list(rows[0]))
    chosen = rows if draw.random() < 0.3 else draw.sample(rows, draw.randint(1, min(4, len(rows))))
    value = draw.choice(ODD_VALUES)
    for row in chosen:
        row[name] = value


def fewer_rows(draw: random.Random, rows: list[dict[str, Any]]) -> None:
    del rows[draw.choice([1, 2, 3]) :]


def rename(draw: random.Random, rows: list[dict[str, Any]]) -> None:
    old, new = draw.choice(list(rows[0])), draw.choice(["Title", "ITEM ID", "", "user", "ts", "x" * 300, "a b"])
    for row in rows:
        row[new] = row.pop(old, None)


def drop_column(draw: random.Random, rows: list[dict[str, Any]]) -> None:
    name = draw.choice(list(rows[0]))
    for row in rows:
        row.pop(name, None)


def typed_column(draw: random.Random, rows: list[dict[str, Any]]) -> None:
    """A column of lists, structs, durations or bytes."""
    name = draw.choice(list(rows[0]))
    make: Callable[[int], Any] = draw.choice(
        [
            lambda n: [n],
            lambda n: {"a": n},
            lambda n: timedelta(seconds=n),
            lambda n: [{"a": n}],
            lambda n: [[str(n)]],
            lambda n: b"\xff%d" % n,
            lambda n: n % 2 == 0,
        ]
    )
    for number, row in enumerate(rows):
        row[name] = make(number)


def flip(draw: random.Random, content: bytes) -> bytes:
    data = bytearray(content)
    for _ in range(draw.randint(1, 8)):
        if data:
            data[draw.randrange(len(data))] = draw.randrange(256)
    return bytes(data)


def cut(draw: random.Random, content: bytes) -> bytes:
    return content[: draw.randrange(len(content) + 1)]


def insert(draw: random.Random, content: bytes) -> bytes:
    at = draw.randrange(len(content) + 1)
    odd = [
        b"\x00",
        b"\xff\xfe",
        b"\xed\xa0\x80",
        b'"',
        b"\n\n",
        b"\r",
        b",,,,",
        b"\xef\xbb\xbf",
        b"[" * 3_000,
        b"\\ud800",
    ]
    return content[:at] + draw.choice(odd) + content[at:]


def replace_all(draw: random.Random, content: bytes) -> bytes:
    odd = [
        b"",
        b"\n",
        b" ",
        b"\x00" * 10,
        b"PAR1",
        b"\x1f\x8b",
        b"{}",
        b"[]",
        b'{"a":' * 5_000,
        b"null",
        zlib.compress(content),
    ]
    return draw.choice(odd)


def repeat_header(draw: random.Random, content: bytes) -> bytes:
    head, _, rest = content.partition(b"\n")
    return head + b"," + head + b"\n" + rest


def plain_json(value: Any) -> Any:
    """What JSON can say of a value."""
    if isinstance(value, dict):
        return {str(name): plain_json(part) for name, part in value.items()}
    if isinstance(value, list):
        return [plain_json(part) for part in value]
    return value if isinstance(value, (str, int, float, bool, type(None))) else str(value)


def fuzzed_table(seed: int, folder: Path) -> Path:
    """Write one broken table, and return its path."""
    draw = random.Random(seed)
    rows = sound_rows()
    for _ in range(draw.randint(0, 2)):
        if rows[0]:
            draw.choice([spoil_rows, spoil_rows, typed_column, fewer_rows, rename, drop_column])(draw, rows)
    ending = draw.choice(["csv", "csv.gz", "tsv", "parquet", "jsonl", "jsonl"])
    if ending == "jsonl":
        rows = [plain_json(row) for row in rows]
    content = table_bytes(rows, ending)
    for _ in range(draw.choice([0, 0, 1, 2])):
        content = draw.choice([flip, cut, insert, replace_all, repeat_header])(draw, content)
    path = folder / f"events{seed}.{ending}"
    path.write_bytes(content)
    return path


def odd_json(draw: random.Random) -> Any:
    return draw.choice([*ODD_VALUES, SURROGATE, math.nan, math.inf, 10**5_000 if draw.random() < 0.2 else 10**20])


def fuzzed_request(seed: int, item_ids: list[str]) -> bytes:
    """One broken line of `llmrec recommend --input`."""
    draw = random.Random(seed)
    events: list[Any] = [
        {"item_id": draw.choice(item_ids), "timestamp": START + 10 * place} for place in range(draw.randint(1, 4))
    ]
    line: Any = {"user_id": "u", "history": events}
    for _ in range(draw.randint(0, 3)):
        event = draw.choice(events) if events else {}
        kind = draw.randrange(7)
        if kind == 0 and isinstance(event, dict):
            event[draw.choice(["item_id", "timestamp", "title", "brand", "strange", "rating"])] = odd_json(draw)
        elif kind == 1 and isinstance(event, dict):
            event["item_id"], event["title"] = "new", draw.choice(ODD_TEXTS)
        elif kind == 2 and events:
            events[draw.randrange(len(events))] = odd_json(draw)
        elif kind == 3 and isinstance(line, dict):
            line[draw.choice(["history", "now", "user_id", "extra", "recommendations"])] = odd_json(draw)
        elif kind == 4 and events:
            events.append(draw.choice(events))
        elif kind == 5:
            line = odd_json(draw) if draw.random() < 0.2 else line
        elif isinstance(event, dict) and "timestamp" in event:
            event["timestamp"] = draw.choice(
                [
                    "2020-09-13",
                    "2020-09-13T12:26:40+99:99",
                    "0001-01-01T00:00:00+14:00",
                    START * 1_000,
                    -5,
                    "1e9",
                    START + 0.5,
                ]
            )
    try:
        content = json.dumps(line, ensure_ascii=draw.random() < 0.5).encode("utf-8", "surrogatepass")
    except ValueError:
        content = b'{"user_id": "u", "history": [{"item_id": ' + b"9" * 5_000 + b"}]}"
    for _ in range(draw.choice([0, 1])):
        content = draw.choice([flip, cut, insert, replace_all])(draw, content)
    return content
