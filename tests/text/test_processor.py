from __future__ import annotations

import numpy as np
import pytest
from small_data import items_frame

from llmrec.configuration import RecommenderConfig
from llmrec.data.catalog import Catalog
from llmrec.models.backbone import load_tokenizer
from llmrec.text.processor import Processor
from llmrec.text.serializer import Serializer
from llmrec.text.template import PromptTemplate

DAY = 86_400
TEMPLATE = PromptTemplate(header="History", event="{title}[, {gap}]", item="{title}[ | {brand}]")
CATALOG = Catalog(items_frame())


@pytest.fixture(scope="module")
def tokenizers(checkpoints):
    return {family: load_tokenizer(folder) for family, folder in checkpoints.items()}


def processor_of(tokenizer, template=TEMPLATE, has_clock=True, **lengths) -> Processor:
    return Processor(Serializer(template, has_clock), tokenizer, RecommenderConfig(base_model="tiny", **lengths))


def words(processor: Processor, ids: list[int]) -> list[str]:
    return processor.tokenizer.convert_ids_to_tokens(ids)


HISTORY = np.array([CATALOG.index("i00"), CATALOG.index("i15"), CATALOG.index("i02")])
TIMES = np.array([0, 60, 60 + 3 * DAY])


def test_golden_blocks_of_an_encoder(tokenizers):
    processor = processor_of(tokenizers["bert"])
    assert words(processor, processor.header) == ["[CLS]", "history"]
    assert [words(processor, block) for block in processor.blocks(HISTORY, TIMES, CATALOG)] == [
        ["heat", "[SEP]"],
        ["red", "hammer", "[SEP]"],
        ["brazil", ",", "t", "##h", "##r", "##e", "##e", "days", "later", "[SEP]"],
    ]


def test_golden_blocks_of_a_decoder(tokenizers):
    processor = processor_of(tokenizers["llama"])
    assert "".join(words(processor, processor.header)) == "<s>History"
    blocks = ["".join(words(processor, block)) for block in processor.blocks(HISTORY, TIMES, CATALOG)]
    assert blocks == ["heatĊ", "redĠhammerĊ", "brazil,ĠthreeĠdaysĠlaterĊ"]


def test_without_a_clock_nothing_is_said_of_time(tokenizers):
    processor = processor_of(tokenizers["bert"], has_clock=False)
    assert words(processor, processor.blocks(HISTORY, TIMES, CATALOG)[2]) == ["brazil", "[SEP]"]


@pytest.mark.parametrize("family", ["bert", "llama", "roberta", "gpt2"])
def test_blocks_and_header_are_never_empty(tokenizers, family):
    processor = processor_of(tokenizers[family], PromptTemplate())
    assert processor.header and processor.separator
    assert all(processor.blocks(HISTORY, TIMES, CATALOG))


def test_a_tokenizer_that_drops_new_lines_still_parts_events():
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.WordLevel({"<unk>": 0, "</s>": 1, "heat": 2}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    plain = PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", eos_token="</s>")
    processor = processor_of(plain)
    assert processor.separator == [1]
    assert all(processor.blocks(HISTORY, TIMES, CATALOG))


@pytest.mark.parametrize("family", ["bert", "llama", "roberta", "gpt2"])
def test_words_of_an_item_cannot_be_control_tokens(tokenizers, family):
    tokenizer = tokenizers[family]
    special = " ".join(tokenizer.all_special_tokens)
    items = Catalog(items_frame().with_columns(title=np.array([f"heat {special} saw"] * len(items_frame()))))
    processor = processor_of(tokenizer, PromptTemplate())
    [block] = processor.blocks(HISTORY[:1], TIMES[:1], items)
    body = block[: len(block) - len(processor.separator)]
    unknown = {tokenizer.unk_token_id} if family == "bert" else set()
    assert not set(body) & (set(tokenizer.all_special_ids) - unknown)


def test_an_event_that_alone_exceeds_the_budget_stands_as_its_vector(tokenizers):
    long = PromptTemplate(header="History", event="{title} 1 2 3 4 5 6 7", item="{title}")
    processor = processor_of(tokenizers["bert"], long, max_tokens=11)
    blocks = processor.blocks(HISTORY, TIMES, CATALOG)
    assert processor.budget == 9
    assert [len(block) for block in blocks] == [9, 1, 9]  # "red hammer" has a word too many
    assert blocks[1] == processor.separator


@pytest.mark.parametrize("max_tokens", [8, 9])
def test_a_header_that_fills_the_budget_is_an_error(tokenizers, max_tokens):
    template = PromptTemplate(header="1 2 3 4 5 6 7")
    with pytest.raises(ValueError, match=f"the header takes 8 of max_tokens={max_tokens}"):
        processor_of(tokenizers["bert"], template, max_tokens=max_tokens)
    assert processor_of(tokenizers["bert"], template, max_tokens=10).budget == 2


def read_all(processor: Processor, items: np.ndarray, overlap: float | None = None):
    blocks = processor.blocks(items, np.zeros(len(items), dtype=np.int64), CATALOG)
    return blocks, [processor.read(items, blocks, window) for window in processor.windows(blocks, overlap)]


@pytest.mark.parametrize("max_vector_events", [0, 1, 3, 100])
@pytest.mark.parametrize("overlap", [0.0, 0.5])
def test_older_events_stand_as_vectors(tokenizers, max_vector_events, overlap):
    processor = processor_of(tokenizers["bert"], max_tokens=12, max_vector_events=max_vector_events)
    items = np.arange(12)
    blocks, rows = read_all(processor, items, overlap)
    assert len(rows) > 2
    trained = []
    for row in rows:
        last = row.offset + len(row.items)
        assert row.items.tolist() == list(range(row.offset, last))
        num_vectors = 0
        while row.blocks[num_vectors] == processor.separator:
            num_vectors += 1
        start = row.offset + num_vectors
        assert num_vectors == min(start, max_vector_events)
        assert list(row.blocks[num_vectors:]) == blocks[start:last]
        assert processor.num_tokens(row) <= 12 + max_vector_events
        assert row.first >= num_vectors
        trained += range(row.offset + row.first, last)
    assert trained == list(range(12))


def test_num_tokens_is_what_a_batch_holds(tokenizers):
    processor = processor_of(tokenizers["llama"], max_tokens=24, max_vector_events=2)
    _, rows = read_all(processor, np.arange(9))
    for row in rows:
        batch = processor.batch([row])
        assert batch["input_ids"].shape == (1, processor.num_tokens(row))
        assert (batch["block"] >= 0).all()


def test_the_batch_pads_on_the_tokenizers_side(tokenizers, checkpoints):
    tokenizer = load_tokenizer(checkpoints["bert"])
    tokenizer.padding_side = "left"
    processor = processor_of(tokenizer, max_tokens=12)
    _, rows = read_all(processor, np.arange(6))
    widths = [processor.num_tokens(row) for row in rows]
    assert len(set(widths)) > 1
    block = processor.batch(rows)["block"]
    assert [(row >= 0).sum().item() for row in block] == widths
    assert (block[:, -1] >= 0).all()


def test_a_tokenizer_without_padding_token_pads_with_what_it_has(tokenizers):
    assert tokenizers["llama"].pad_token_id is None
    processor = processor_of(tokenizers["llama"])
    assert processor.pad_token_id == tokenizers["llama"].eos_token_id


def test_item_texts_are_the_serializers(tokenizers):
    processor = processor_of(tokenizers["bert"])
    assert processor.item_text({"title": "Saw", "brand": "Acme"}) == "Saw | Acme"
