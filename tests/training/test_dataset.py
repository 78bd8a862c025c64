from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from datasets import Dataset
from small_data import START, items_frame

from llmrec.configuration import RecommenderConfig
from llmrec.data.catalog import Catalog
from llmrec.losses.catalogue import IGNORED
from llmrec.models.backbone import load_tokenizer
from llmrec.text.moments import weekday_word
from llmrec.text.processor import Processor
from llmrec.text.serializer import Serializer
from llmrec.text.template import PromptTemplate
from llmrec.training.dataset import WindowDataset

CATALOG = Catalog(items_frame(60))
TEMPLATE = PromptTemplate(event="{title}[, {gap}]", item="{title}")
DAY = 86_400


@pytest.fixture(scope="module")
def processor(checkpoints) -> Processor:
    """Room for about three events as text and two as vectors."""
    config = RecommenderConfig(base_model="tiny", max_tokens=20, max_vector_events=2)
    return Processor(Serializer(TEMPLATE), load_tokenizer(checkpoints["bert"]), config)


def histories(lengths: list[int], splits: str = "") -> Dataset:
    """Users with distinct items each, in catalogue order from a place of their own; `splits` ends every row."""
    names = {"t": "train", "v": "validation", "x": "test"}
    rows = [[f"i{(7 * user + place) % 60:02}" for place in range(length)] for user, length in enumerate(lengths)]
    return Dataset.from_dict(
        {
            "user_id": [f"u{user}" for user in range(len(lengths))],
            "item_id": rows,
            "timestamp": [[START + 3 * DAY * place for place in range(length)] for length in lengths],
            "split": [["train"] * (length - len(splits)) + [names[letter] for letter in splits] for length in lengths],
        }
    )


def targets(dataset: WindowDataset) -> Counter:
    """(user, position) of every target of an epoch, found through offset and labels alone."""
    found: Counter = Counter()
    for index in range(len(dataset)):
        user, _ = dataset.windows[index]
        example = dataset[index]
        for event, label in enumerate(example["labels"]):
            if label != IGNORED:
                position = example["row"].offset + event + 1
                assert label == dataset.items[user][position]
                found[user, position] += 1
    return found


@pytest.mark.parametrize("overlap", [0.0, 0.3, 0.5, 0.9])
def test_every_position_is_a_target_exactly_once(processor, overlap):
    lengths = [2, 3, 9, 30]
    dataset = WindowDataset(histories(lengths), CATALOG, processor, overlap)
    assert len(dataset) > 10
    expected = {(user, position): 1 for user, length in enumerate(lengths) for position in range(1, length)}
    assert targets(dataset) == expected
    assert dataset.num_targets == len(expected)


@pytest.mark.parametrize("overlap", [0.0, 0.5, 0.9])
def test_the_target_and_what_follows_are_never_in_its_own_input(processor, overlap):
    dataset = WindowDataset(histories([25, 12]), CATALOG, processor, overlap)
    checked = 0
    for index in range(len(dataset)):
        user, _ = dataset.windows[index]
        example = dataset[index]
        row, whole = example["row"], dataset.items[user].tolist()
        for event, label in enumerate(example["labels"]):
            if label == IGNORED:
                continue
            position = whole.index(label)  # items are distinct
            visible = row.items[: event + 1].tolist()  # events after this one are hidden by the mask
            assert visible == whole[position - len(visible) : position]
            assert not set(visible) & set(whole[position:])
            checked += 1
        assert len(row.items) == len(example["labels"])
    assert checked == 24 + 11


def test_the_last_item_of_a_user_is_never_read(processor):
    dataset = WindowDataset(histories([9]), CATALOG, processor)
    read = {item for index in range(len(dataset)) for item in dataset[index]["row"].items.tolist()}
    assert read == set(dataset.items[0][:-1].tolist())


def test_the_text_read_is_that_of_the_items_with_their_gaps(processor):
    dataset = WindowDataset(histories([12]), CATALOG, processor, overlap=0.5)
    for index in range(len(dataset)):
        row = dataset[index]["row"]
        for event, block in enumerate(row.blocks):
            item = CATALOG.attributes(int(row.items[event]))
            gap = 3 * DAY if row.offset + event else None
            text = processor._ids(processor.serializer.event(item, gap)) + processor.separator
            assert list(block) in (text, processor.separator)
        assert any(len(block) > 1 for block in row.blocks)


def test_only_training_events_appear(processor):
    """Validation and test items are planted; they stand in no input and are no target."""
    dataset = WindowDataset(histories([8, 8], splits="vxx"), CATALOG, processor)
    train = {CATALOG.index(f"i{7 * user + place:02}") for user in range(2) for place in range(5)}
    seen = set()
    for index in range(len(dataset)):
        example = dataset[index]
        seen |= set(example["row"].items.tolist()) | set(example["labels"].tolist()) - {IGNORED}
    assert seen == train
    assert dataset.num_targets == 2 * 4


def test_training_events_after_a_held_out_one_are_joined_over_it(processor):
    rows = histories([5]).to_dict()
    rows["split"] = [["train", "validation", "train", "test", "train"]]
    dataset = WindowDataset(Dataset.from_dict(rows), CATALOG, processor)
    assert dataset.items[0].tolist() == [CATALOG.index(f"i{place:02}") for place in (0, 2, 4)]
    assert dataset.timestamps[0].tolist() == [START + 3 * DAY * place for place in (0, 2, 4)]


def test_users_with_less_than_two_training_events_are_left_out(processor):
    dataset = WindowDataset(histories([1, 2, 3], splits=""), CATALOG, processor)
    assert [len(items) for items in dataset.items] == [2, 3]
    with pytest.raises(ValueError, match="no user has two training events"):
        WindowDataset(histories([1, 1]), CATALOG, processor)
    with pytest.raises(ValueError, match="no user has two training events"):
        WindowDataset(histories([3, 4], splits="vxx"), CATALOG, processor)


def test_the_newest_events_are_kept(processor):
    dataset = WindowDataset(histories([9, 3]), CATALOG, processor, max_train_events=4)
    assert dataset.items[0].tolist() == [CATALOG.index(f"i{place:02}") for place in range(5, 9)]
    assert len(dataset.items[1]) == 3
    for number in (1, 0, -1):
        with pytest.raises(ValueError, match=f"max_train_events={number}"):
            WindowDataset(histories([9, 3]), CATALOG, processor, max_train_events=number)


@pytest.mark.parametrize("newest", [None, 4])
def test_only_first_events_are_trained_where_rankings_show_no_others(processor, newest):
    rows = [[3, 5, 3, 7, 5, 9, 9, 3], [2, 2, 2], [1, 4, 1, 1, 4, 1]]
    given = Dataset.from_dict(
        {
            "user_id": ["a", "b", "c"],
            "item_id": [[f"i{item:02}" for item in row] for row in rows],
            "timestamp": [[START + DAY * place for place in range(len(row))] for row in rows],
            "split": [["train"] * len(row) for row in rows],
        }
    )
    dataset = WindowDataset(given, CATALOG, processor, max_train_events=newest, first_only=True)
    expected, users = Counter(), 0
    for row in rows:
        dropped = 0 if newest is None else max(0, len(row) - newest)
        trained = [place for place in range(dropped + 1, len(row)) if row[place] not in row[:place]]
        expected.update((users, place - dropped) for place in trained)  # also where the earlier event is not read
        users += bool(trained)  # nobody is read in vain
    assert targets(dataset) == expected
    assert dataset.num_targets == len(expected)
    assert len(dataset.items) == users


@pytest.mark.parametrize("overlap", [0.0, 0.5])
def test_every_trained_position_is_asked_at_the_time_of_the_next_event(checkpoints, overlap):
    template = PromptTemplate(event="{title}", item="{title}", query="[{gap}][ {weekday}]")
    config = RecommenderConfig(base_model="tiny", max_tokens=20, max_vector_events=2)
    processor = Processor(Serializer(template), load_tokenizer(checkpoints["bert"]), config)
    dataset = WindowDataset(histories([25, 3, 12]), CATALOG, processor, overlap)
    asked = 0
    for index in range(len(dataset)):
        user, _ = dataset.windows[index]
        example = dataset[index]
        row = example["row"]
        assert [query.event for query in row.queries] == np.flatnonzero(example["labels"] != IGNORED).tolist()
        for query in row.queries:
            following = int(dataset.timestamps[user][row.offset + query.event + 1])
            assert query.time == (3 * DAY, following)
            text = f"three days later {weekday_word(following)}"
            assert list(query.block) == processor._ids(text) + processor.separator
            asked += 1
        assert processor.batch([row])["input_ids"].shape[1] == dataset.lengths[index]
    assert asked == dataset.num_targets == 24 + 2 + 11


@pytest.mark.parametrize("newest", [1, 3, 100])
def test_the_newest_positions_are_trained_and_older_events_are_read(processor, newest):
    lengths = [2, 9, 30]
    dataset = WindowDataset(histories(lengths), CATALOG, processor, last_positions=newest)
    trained = {(u, p): 1 for u, length in enumerate(lengths) for p in range(max(1, length - newest), length)}
    assert targets(dataset) == trained and dataset.num_targets == len(trained)
    assert len(dataset[len(dataset) - 1]["row"].items) > 2  # context stays
    for number in (0, -1):
        with pytest.raises(ValueError, match=f"last_positions={number}: give at least 1"):
            WindowDataset(histories(lengths), CATALOG, processor, last_positions=number)


@pytest.mark.parametrize("overlap", [0.0, 0.5])
def test_a_position_counts_half_as_much_a_half_life_earlier(processor, overlap):
    dataset = WindowDataset(histories([2, 9, 30]), CATALOG, processor, overlap, recency_half_life=4)
    found: dict[tuple[int, int], float] = {}
    for index in range(len(dataset)):
        example = dataset[index]
        assert example["weights"].shape == example["labels"].shape and example["weights"].dtype == np.float32
        for event in np.flatnonzero(example["labels"] != IGNORED):
            found[dataset.windows[index][0], example["row"].offset + int(event) + 1] = float(example["weights"][event])
    assert len(found) == 1 + 8 + 29 and np.mean(list(found.values())) == pytest.approx(1)
    assert found[0, 1] == pytest.approx(found[1, 8]) == pytest.approx(found[2, 29])  # the newest of each user
    for position in range(1, 26):
        assert found[2, position + 4] == pytest.approx(2 * found[2, position])
    assert WindowDataset(histories([9]), CATALOG, processor)[0]["weights"] is None
    for number in (0, -2, float("nan")):
        with pytest.raises(ValueError, match=f"recency_half_life={number}: give more than 0 events"):
            WindowDataset(histories([9]), CATALOG, processor, recency_half_life=number)


@pytest.mark.parametrize("overlap", [0.0, 0.5])
def test_lengths_are_those_of_the_batches(processor, overlap):
    dataset = WindowDataset(histories([2, 17, 30]), CATALOG, processor, overlap)
    assert isinstance(dataset.lengths, np.ndarray) and len(dataset.lengths) == len(dataset)
    for index in range(len(dataset)):
        assert processor.batch([dataset[index]["row"]])["input_ids"].shape[1] == dataset.lengths[index]
