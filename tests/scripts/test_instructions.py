from __future__ import annotations

import json
from pathlib import Path

import pytest
from instructions import main, read_instructions
from questions import question_of, titles_of

from llmrec.data.directory import PreparedData
from llmrec.data.labelled_cases import LabelledCases

INSTRUCTION = 'Given the user\'s preference and unpreference, say whether they will like it: "Yes." or "No.".'


def row(liked: list[str], disliked: list[str], target: str, output: str) -> dict[str, str]:
    lists = [", ".join(f'"{title}"' for title in titles) for titles in (liked, disliked)]
    question = f'Whether the user will like the target movie "{target}"?'
    return {
        "instruction": INSTRUCTION,
        "input": f"User Preference: {lists[0]}\nUser Unpreference: {lists[1]}\n{question}",
        "output": output,
    }


ROWS = [
    row(["Matrix, The (1999)", "Heat"], ["Babe"], "Shall We Dance? (1996)", "Yes."),
    row([], ["heat", "Alien"], "Babe", "No."),
    row(["Alien"], [], "Heat", " yes "),
    *(row(["Alien"], ["Babe"], f"Film {number}", "No.") for number in range(9)),
]


@pytest.mark.parametrize(
    ("text", "titles"),
    [
        ('"A", "B"', ["A", "B"]),
        ('"A","B" ,  "C"', ["A", "B", "C"]),
        ('"Matrix, The (1999)", "M*A*S*H"', ["Matrix, The (1999)", "M*A*S*H"]),
        ('"The "Burbs" (1989)", "He said "Hi"", "B"', ['The "Burbs" (1989)', 'He said "Hi"', "B"]),
        (r'"A \"x\", \"y\"", "B"', ['A "x", "y"', "B"]),
        ('""Weird Al", the film", "B"', ['"Weird Al", the film', "B"]),
        ("", []),
        (" None ", []),
    ],
)
def test_lists_of_titles(text: str, titles: list[str]) -> None:
    assert titles_of(text) == [(title, None) for title in titles]


def test_authors() -> None:
    text = '"East, West" written by Salman Rushdie, "Garden" written by Ann Ek, Bo Lo, "Q" written by "Doc" Smith, "P"'
    assert titles_of(text) == [
        ("East, West", "Salman Rushdie"),
        ("Garden", "Ann Ek, Bo Lo"),
        ("Q", '"Doc" Smith'),
        ("P", None),
    ]
    question = 'Whether the user will like the target book ""Echoes" written by Maeve Binchy"?'
    assert question_of(question) == ([], [], ("Echoes", "Maeve Binchy"))
    published_script = 'Whether the user will like the target book "Echoes"written byMaeve Binchy?'
    assert question_of(published_script)[2] == ("Echoes", "Maeve Binchy")


@pytest.mark.parametrize(
    "text",
    [
        'User Preference: "A"\nWhether the user will like the target movie "T"?',
        'user preference: "A"\nUser Unpreference:\n\nWhether the user will like the target movie "T"? ',
        'User Preference: "A"\r\nUser Unpreference: \r\nWhether the user will like the target song "T"?',
    ],
)
def test_empty_and_absent_lists(text: str) -> None:
    assert question_of(text) == ([("A", None)], [], ("T", None))


def test_a_row_becomes_a_user(tmp_path: Path) -> None:
    (tmp_path / "rows.json").write_text(json.dumps(ROWS))
    raw = read_instructions(tmp_path / "rows.json")
    first = raw.interactions.filter(user_id="01")
    assert first["item_id"].to_list() == ["matrix, the (1999)", "heat", "babe", "shall we dance? (1996)"]
    assert first["rating"].to_list() == [1, 1, 0, 1]
    assert first["timestamp"].to_list() == [0, 1, 2, 3]
    assert raw.interactions["user_id"].unique().sort().to_list() == [f"{number:02}" for number in range(1, 13)]
    lines = "\n".join(map(json.dumps, ROWS)) + "\n\n"
    (tmp_path / "rows.jsonl").write_text(lines)
    assert read_instructions(tmp_path / "rows.jsonl").interactions.equals(raw.interactions)


def test_end_to_end_each_row_asks_its_last_event_alone(tmp_path: Path) -> None:
    (tmp_path / "rows.json").write_text(json.dumps(ROWS))
    main(str(tmp_path / "rows.json"), str(tmp_path / "data"))
    data = PreparedData.open(tmp_path / "data")
    assert (data.manifest["labels"]["cases"], data.manifest["clock"]) == ("last", "ordinal")
    assert data.manifest["split"]["kind"] == "users" and data.manifest["split"]["drawn"]
    assert len(data.catalog) == 14  # "Heat" and "heat" are one
    asked = {}
    for split in ("train", "validation", "test"):
        cases = LabelledCases.from_directory(data, split)
        assert len(cases) == len(cases.users)
        asked |= dict(zip(cases.users, cases.labels.tolist(), strict=True))
        for case, user in enumerate(cases.users):
            assert len(cases.history(case)) == len(data.interactions.filter(user_id=user)) - 1
    assert asked == {
        f"{number:02}": ROWS[number - 1]["output"].strip().lower().startswith("yes") for number in range(1, 13)
    }


def test_three_files_part_the_rows(tmp_path: Path) -> None:
    folder = tmp_path / "movie"
    folder.mkdir()
    (folder / "train.json").write_text(json.dumps(ROWS[:6]))
    (folder / "valid.json").write_text(json.dumps(ROWS[6:8]))
    (folder / "test.jsonl").write_text("\n".join(map(json.dumps, ROWS[8:])))
    main(str(folder), str(tmp_path / "data"))
    data = PreparedData.open(tmp_path / "data")
    assert not data.manifest["split"]["drawn"] and len(data.manifest["inputs"]) == 3
    cases = {split: LabelledCases.from_directory(data, split) for split in ("train", "validation", "test")}
    assert {split: len(part) for split, part in cases.items()} == {"train": 6, "validation": 2, "test": 4}
    assert cases["test"].users == [f"test-{number}" for number in range(1, 5)]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"output": "Maybe."}, "row 2: expected 'Yes.' or 'No.' as output and found 'Maybe.'"),
        ({"output": 1}, "row 2: expected the texts instruction, input and output"),
        ({"input": "Does she like Heat?"}, "row 2: expected 'User Preference: …'"),
        ({"input": ROWS[1]["input"].replace('"heat"', "heat")}, 'row 2: expected titles as "A", "B" and found \'heat'),
        ({"input": ROWS[1]["input"].replace('"Babe"', '"Babe", "Heat"')}, "row 2: expected one title to judge"),
        ({"input": ROWS[1]["input"].replace('"heat"', '""')}, "row 2: expected titles"),
        ({"input": ROWS[1]["input"].replace("Unpreference", "Dislikes")}, "row 2: expected 'User Preference: …'"),
    ],
)
def test_a_row_that_cannot_be_read_is_named(tmp_path: Path, change: dict[str, object], message: str) -> None:
    (tmp_path / "rows.json").write_text(json.dumps([ROWS[0], {**ROWS[1], **change}]))
    with pytest.raises(ValueError) as error:
        read_instructions(tmp_path / "rows.json")
    assert message in str(error.value) and str(error.value).startswith("rows.json, ")


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    for text, message in (("", "is empty"), ("[{]", "no JSON list"), ('{"input": 1}\n{', "rows.json, line 2: no JSON")):
        (tmp_path / "rows.json").write_text(text)
        with pytest.raises(ValueError, match=message):
            read_instructions(tmp_path / "rows.json")
    with pytest.raises(ValueError, match="holds 0 files for train"):
        read_instructions(tmp_path)
    with pytest.raises(FileNotFoundError, match="no file or folder"):
        read_instructions(tmp_path / "gone.json")
