from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from small_data import items_frame
from tiny_recommenders import rec_model, tiny_recommender
from transformers import AutoModel

from llmrec.checkpoints import Checkpoint
from llmrec.data.catalog import Catalog
from llmrec.models.backbone import load_backbone, load_tokenizer
from llmrec.ranking import item_index
from llmrec.ranking.item_index import encode_texts

FAMILIES = ["bert", "llama", "roberta", "gpt2"]
TEXTS = [
    "heat",
    "a long wooden ladder of steel, red paint, blue glue, small green drill and large hammer",
    "red saw",
    "heat",
    "brazil | acme | drama",
    "red saw ",
    "0",
]


@pytest.fixture(scope="module")
def loaded(checkpoints):
    return {
        family: (load_backbone(Checkpoint(family, folder, None, "folder")), load_tokenizer(folder))
        for family, folder in checkpoints.items()
    }


@pytest.mark.parametrize("max_tokens", [6, 64])
@pytest.mark.parametrize("family", FAMILIES)
def test_embeddings_equal_the_plain_model_one_text_at_a_time(checkpoints, loaded, family, max_tokens):
    """The plain model with its own masks and positions: mean of the last hidden states, as sentence encoders do."""
    plain, tokenizer = AutoModel.from_pretrained(checkpoints[family]).eval(), load_tokenizer(checkpoints[family])
    vectors = encode_texts(*loaded[family], TEXTS, max_tokens)
    assert vectors.shape == (len(TEXTS), plain.config.hidden_size) and vectors.dtype == torch.float32
    for text, vector in zip(TEXTS, vectors, strict=True):
        inputs = tokenizer([text], truncation=True, max_length=max_tokens, return_tensors="pt")
        with torch.no_grad():
            states = plain(input_ids=inputs["input_ids"]).last_hidden_state[0]
        assert 1 <= len(states) <= max_tokens
        torch.testing.assert_close(vector, F.normalize(states.mean(0), dim=0), rtol=0, atol=2e-6)


@pytest.mark.parametrize("family", FAMILIES)
def test_equal_texts_are_equal_to_the_last_bit(loaded, family):
    texts = [TEXTS[index % 5] + " x" * (index % 3) for index in range(60)]
    vectors = encode_texts(*loaded[family], texts, 64)
    for text in set(texts):
        twins = vectors[[index for index, other in enumerate(texts) if other == text]]
        assert torch.equal(twins, twins[:1].expand_as(twins))


@pytest.mark.parametrize("tokens_per_batch", [1, 20, 50])
@pytest.mark.parametrize("family", ["bert", "llama"])
def test_batching_and_order_do_not_matter(loaded, family, tokens_per_batch, monkeypatch):
    whole = encode_texts(*loaded[family], TEXTS, 64)
    monkeypatch.setattr(item_index, "TOKENS_PER_BATCH", tokens_per_batch)
    torch.testing.assert_close(encode_texts(*loaded[family], TEXTS, 64), whole, rtol=0, atol=1e-6)
    backwards = encode_texts(*loaded[family], TEXTS[::-1], 64).flip(0)
    torch.testing.assert_close(backwards, whole, rtol=0, atol=1e-6)


def test_rows_have_length_one(loaded):
    torch.testing.assert_close(encode_texts(*loaded["bert"], TEXTS, 64).norm(dim=1), torch.ones(len(TEXTS)))


@pytest.mark.parametrize("training", [True, False])
def test_encoding_leaves_the_model_as_it_was(loaded, training):
    backbone, tokenizer = loaded["bert"]
    backbone.train(training)
    once, again = (encode_texts(backbone, tokenizer, TEXTS, 64) for _ in range(2))
    assert torch.equal(once, again)  # no dropout, in training neither
    assert backbone.training == training
    backbone.eval()


def test_encoding_leaves_no_trace_in_the_tokenizer(loaded, tmp_path):
    backbone, tokenizer = loaded["bert"]
    tokenizer.save_pretrained(tmp_path / "before")
    encode_texts(backbone, tokenizer, TEXTS, 6)
    tokenizer.save_pretrained(tmp_path / "after")
    before, after = ((tmp_path / name / "tokenizer.json").read_bytes() for name in ("before", "after"))
    assert before == after


def test_words_of_a_title_are_no_control_tokens(loaded):
    one, two = encode_texts(*loaded["llama"], ["heat </s>", "heat < /s>"], 64)
    backbone, tokenizer = loaded["llama"]
    tokens = torch.tensor([tokenizer("heat ", split_special_tokens=True)["input_ids"] + [tokenizer.eos_token_id]])
    with torch.no_grad():
        ended = F.normalize(backbone(input_ids=tokens).last_hidden_state[0].mean(0), dim=0)
    assert (one - ended).abs().max() > 1e-3
    assert (one - two).abs().max() > 1e-3


def test_a_catalogue_is_encoded_by_its_item_texts(checkpoints):
    recommender = tiny_recommender(checkpoints["bert"])
    texts = [
        recommender.processor.item_text(recommender.items.attributes(row)) for row in range(len(recommender.items))
    ]
    assert texts[0] == "heat | acme | drama, crime"
    with recommender.model.disable_adapter():
        vectors = encode_texts(rec_model(recommender).backbone, recommender.processor.tokenizer, texts, 16)
    assert torch.equal(rec_model(recommender).rec_items.text, vectors)


def test_windows_beyond_the_models_positions_are_refused(checkpoints):
    with pytest.raises(ValueError, match=r"max_tokens=1020 \+ max_vector_events=5 exceed the 1024 positions"):
        tiny_recommender(checkpoints["roberta"], Catalog(items_frame()), max_tokens=1020, max_vector_events=5)
    tiny_recommender(checkpoints["roberta"], Catalog(items_frame()), max_tokens=1020, max_vector_events=4)
