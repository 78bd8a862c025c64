"""Texts that a tokenizer cannot read: counted by hand, and said by `train`."""

from __future__ import annotations

import json

import polars as pl
import pytest
from tiny_checkpoints import byte_pairs, word_pieces
from tiny_recommenders import tiny_recommender

from llmrec.commands.train import report_coverage
from llmrec.data.catalog import Catalog
from llmrec.text.unknown_tokens import coverage_of

TITLES = ["蓝色裤装", "红袜厚款", "绒帽黑款", "heat"]


def test_unknown_tokens_and_texts_read_alike_are_counted():
    found = coverage_of(word_pieces(), [*TITLES, "heat", "Heat", "red 蓝"])
    assert (found.tokens, found.unknown) == (3 * 4 + 1 + 1 + 1 + 2, 3 * 4 + 1)  # a token for each ideograph
    assert (found.items, found.alike) == (7, 3 + 3)  # [UNK] x 4; heat, twice, and Heat
    assert found.unknown_texts == TITLES[:3]
    assert found.record == {"unknown_token_share": 13 / 17, "items_read_alike": 6, "items": 7}


@pytest.mark.parametrize("family", ["llama", "roberta", "gpt2"])
def test_bytes_are_never_unknown(family):
    found = coverage_of(byte_pairs(family), [*TITLES, "<|endoftext|>", "<unk>", "</s>"])
    assert (found.unknown, found.alike) == (0, 0) and found.warning("base") is None


def test_a_warning_needs_two_in_a_hundred():
    words = ["heat"] * 98
    assert coverage_of(word_pieces(), [*words, "蓝"]).warning("base") is None  # 1 of 99
    warned = coverage_of(word_pieces(), [*words, "蓝", "红"]).warning("base")  # 2 of 100
    assert "2.0% of the tokens of item texts (2 of 100) are unknown to 'base', such as in '蓝', '红'." in warned
    assert "2 of 100 items have the same tokens" in warned and "multilingual" in warned
    cased = coverage_of(word_pieces(), ["Heat", "heat"]).warning("base")
    assert "2 of 2 items" in cased and "multilingual" not in cased


def test_texts_are_cut_into_tokens_once_and_in_batches(monkeypatch):
    monkeypatch.setattr("llmrec.text.unknown_tokens.TEXTS_PER_BATCH", 10)
    tokenizer, calls = word_pieces(), []

    def counted(texts, **options):
        calls.append(len(texts))
        return tokenizer(texts, **options)

    counted.unk_token_id = tokenizer.unk_token_id
    texts = [f"heat {number}" for number in range(25)]
    assert coverage_of(counted, [*texts, *texts]).items == 2 * len(texts)
    assert calls == [10, 10, 5]


def test_train_says_it_and_keeps_the_numbers(checkpoints, capsys):
    catalog = Catalog(pl.DataFrame({"item_id": list("abcd"), "title": TITLES}))
    recommender = tiny_recommender(checkpoints["bert"], catalog, template="vectors")
    with pytest.warns(
        UserWarning, match=r"are unknown to .*\n3 of 4 items .*\nGive a base model .*multilingual-e5-small"
    ):
        record = report_coverage(recommender, shown=True)
    assert "3 of 4 items read alike" in capsys.readouterr().out
    assert record["items_read_alike"] == 3 and record["unknown_token_share"] > 0.5
    assert not any(title in json.dumps(record, ensure_ascii=False) for title in TITLES)
