"""Item texts are embedded as the checkpoint's sentence-transformers files say: by hand, and by the library."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from tiny_checkpoints import HIDDEN_SIZE
from tiny_recommenders import randomise, rec_model, tiny_recommender

from llmrec.checkpoints import Checkpoint, resolve_checkpoint
from llmrec.configuration import CONFIG_NAME, ItemEncoding
from llmrec.models.backbone import load_backbone, load_tokenizer
from llmrec.models.item_encoder import ITEM_LAYERS, ItemTextHead, read_item_encoding
from llmrec.ranking.item_index import encode_texts
from llmrec.recommender import Recommender

TEXTS = ["heat", "alien brazil and a long title", "Casino"]
HISTORY, CANDIDATES = [{"item_id": "i01"}, {"title": "a new heat"}], ["i02", "i03", "i04"]


def layout(base: Path, folder: Path, pooling: dict, layers: tuple = (), **files: dict) -> Path:
    """A copy of a checkpoint with sentence-transformers files; `layers` are widths and activations of Dense."""
    shutil.copytree(base, folder)
    kinds = [("", "Transformer"), ("1_Pooling", "Pooling")]
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"word_embedding_dimension": HIDDEN_SIZE, **pooling}))
    random, width = torch.Generator().manual_seed(0), HIDDEN_SIZE
    for number, (after, activation) in enumerate(layers, 2):
        path = folder / f"{number}_Dense"
        path.mkdir()
        settings = {"in_features": width, "out_features": after, "bias": True}
        settings["activation_function"] = f"torch.nn.{activation}"
        (path / "config.json").write_text(json.dumps(settings))
        weights = {"linear.weight": torch.randn(after, width, generator=random) / 4}
        save_file({**weights, "linear.bias": torch.randn(after, generator=random)}, path / "model.safetensors")
        kinds.append((path.name, "Dense"))
        width = after
    kinds.append((f"{len(kinds)}_Normalize", "Normalize"))
    modules = [
        {"idx": number, "name": str(number), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for number, (path, kind) in enumerate(kinds)
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    for name, values in files.items():
        (folder / f"{name}.json").write_text(json.dumps(values))
    return folder


def embedded(folder: Path) -> torch.Tensor:
    checkpoint = resolve_checkpoint(str(folder))
    tokenizer = load_tokenizer(folder)
    head = read_item_encoding(checkpoint, HIDDEN_SIZE).head(tokenizer)
    return encode_texts(load_backbone(checkpoint), tokenizer, TEXTS, 64, head=head)


@pytest.mark.parametrize(
    ("mode", "wanted"),
    [
        ("mean", [2.0, 5.0]),
        ("cls", [1.0, 8.0]),
        ("lasttoken", [3.0, 2.0]),
        ("max", [3.0, 8.0]),
        ("mean_sqrt_len_tokens", [4 / 2**0.5, 10 / 2**0.5]),
        ("weightedmean", [(1 + 2 * 3) / 3, (8 + 2 * 2) / 3]),
    ],
)
def test_poolings_by_hand(mode, wanted):
    hidden = torch.tensor([[[1.0, 8.0], [3.0, 2.0], [100.0, 100.0]], [[9.0, 9.0], [9.0, 9.0], [9.0, 9.0]]])
    real = torch.tensor([[True, True, False], [False, False, False]])
    found = ItemTextHead(ItemEncoding(pooling=[mode]))(hidden, real)
    torch.testing.assert_close(found, torch.tensor([wanted, [0.0, 0.0]]))


def test_a_prompts_tokens_are_left_out_of_the_pooling():
    hidden = torch.tensor([[[1.0], [3.0], [5.0]]])
    encoding = ItemEncoding(prompt="passage: ", include_prompt=False)
    assert ItemTextHead(encoding, prompt_tokens=1)(hidden, torch.ones(1, 3, dtype=torch.bool)).item() == 4.0


@pytest.mark.parametrize(
    ("pooling", "layers", "prompts"),
    [
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}, (), None),
        (
            {"pooling_mode": "lasttoken"},
            ((48, "Identity"), (HIDDEN_SIZE, "Tanh")),
            {"passage": "title: ", "query": "q "},
        ),
        ({"pooling_mode": ["mean", "max"]}, (), None),
        ({"pooling_mode_mean_tokens": True, "include_prompt": False}, (), {"default": "history of "}),
    ],
    ids=["cls", "last token and two Dense", "two poolings", "prompt left out"],
)
def test_texts_are_embedded_as_sentence_transformers_embeds_them(checkpoints, tmp_path, pooling, layers, prompts):
    library = pytest.importorskip("sentence_transformers")
    files = {"config_sentence_transformers": {"prompts": prompts, "default_prompt_name": "default"}} if prompts else {}
    if prompts and "default" not in prompts:
        files["config_sentence_transformers"]["default_prompt_name"] = None
    folder = layout(checkpoints["bert"], tmp_path / "base", pooling, layers, **files)
    if isinstance(pooling.get("pooling_mode"), list):
        with pytest.raises(ValueError, match=r"by vectors of 64 numbers \(mean, max pooling\), where .* the 32 of its"):
            embedded(folder)
        return
    model = library.SentenceTransformer(str(folder), device="cpu")
    prompt = next(iter(prompts.values())) if prompts else None
    wanted = torch.tensor(model.encode(TEXTS, prompt=prompt, normalize_embeddings=True))
    found = embedded(folder)
    assert (found - wanted).abs().max() <= 1e-6
    shutil.copytree(checkpoints["bert"], tmp_path / "plain")
    assert (found - embedded(tmp_path / "plain")).abs().max() > 1e-2


def test_what_was_read_goes_with_the_recommender(checkpoints, tmp_path):
    """Through saving, loading without the base's modules.json, another catalogue, merging, and training from that."""
    prompts = {"config_sentence_transformers": {"prompts": {"document": "title "}}, "sentence_bert_config": {}}
    layers = ((48, "Identity"), (HIDDEN_SIZE, "Tanh"))
    prompts["sentence_bert_config"] = {"max_seq_length": 12}
    base = layout(checkpoints["bert"], tmp_path / "base", {"pooling_mode": "cls"}, layers, **prompts)
    recommender = randomise(tiny_recommender(base))
    assert recommender.config.max_item_tokens == 12
    table = rec_model(recommender).rec_items.text
    first = recommender.processor.item_text(recommender.items.attributes(0))
    backbone, tokenizer = load_backbone(resolve_checkpoint(str(base))), recommender.processor.tokenizer
    with torch.no_grad():
        ids = tokenizer("title " + first, truncation=True, max_length=12, return_tensors="pt")["input_ids"]
        tokenizer.backend_tokenizer.no_truncation()
        state = backbone(ids).last_hidden_state[0, 0]
        for path, function in (("2_Dense", lambda x: x), ("3_Dense", torch.tanh)):
            weights = load_file(base / path / "model.safetensors")
            state = function(weights["linear.weight"] @ state + weights["linear.bias"])
    torch.testing.assert_close(table[0], F.normalize(state, dim=0), rtol=0, atol=1e-5)
    scores = recommender.score(HISTORY, CANDIDATES)
    recommender.save_pretrained(tmp_path / "run")
    (base / "modules.json").unlink()
    loaded = Recommender.from_pretrained(tmp_path / "run")
    assert loaded.score(HISTORY, CANDIDATES) == scores
    assert loaded.config.item_encoding == ItemEncoding(pooling=["cls"], prompt="title ", layers=["Identity", "Tanh"])
    (tmp_path / "run" / "item_embeddings.safetensors").unlink()
    again = Recommender.from_pretrained(tmp_path / "run")
    torch.testing.assert_close(rec_model(again).rec_items.text, table, rtol=0, atol=1e-6)
    loaded.merge().save_pretrained(tmp_path / "merged")
    merged = Recommender.from_pretrained(tmp_path / "merged")
    assert merged.score(HISTORY, CANDIDATES) == pytest.approx(scores, abs=1e-4)
    fresh = tiny_recommender(tmp_path / "merged")
    assert fresh.config.item_encoding == loaded.config.item_encoding
    assert set(rec_model(fresh).rec_texts.weights) == {"0.weight", "0.bias", "1.weight", "1.bias"}
    settings = json.loads((tmp_path / "run" / CONFIG_NAME).read_text())
    (tmp_path / "run" / ITEM_LAYERS).unlink()
    with pytest.raises(ValueError, match=r"item_layers.safetensors in .* does not hold 2 Dense layers"):
        Recommender.from_pretrained(tmp_path / "run")
    assert settings["format_version"] == 6


def test_folders_of_format_4_are_read_by_mean_pooling(checkpoints, tmp_path):
    recommender = randomise(tiny_recommender(checkpoints["bert"]))
    recommender.save_pretrained(tmp_path)
    settings = json.loads((tmp_path / CONFIG_NAME).read_text())
    del settings["item_encoding"]
    (tmp_path / CONFIG_NAME).write_text(json.dumps({**settings, "format_version": 4}))
    assert Recommender.from_pretrained(tmp_path).score(HISTORY, CANDIDATES) == recommender.score(HISTORY, CANDIDATES)


def modules(*kinds: str) -> list[dict[str, str]]:
    return [{"path": "" if "Transf" in kind else kind.rpartition(".")[2], "type": kind} for kind in kinds]


ST = "sentence_transformers.models."
REFUSED = {
    "code": (modules(f"{ST}Transformer", "custom_st.Pooling"), {}, "the module 'custom_st.Pooling'"),
    "words": (modules(f"{ST}WordEmbeddings", f"{ST}Pooling"), {}, r"the module '.*WordEmbeddings'"),
    "no pooling": (modules(f"{ST}Transformer", f"{ST}Normalize"), {}, "modules Transformer, Normalize"),
    "no list": ({}, {}, "a modules.json that is no list"),
    "a way out": (
        [modules(f"{ST}Transformer")[0], {"path": "../x", "type": f"{ST}Pooling"}],
        {},
        "'../x', which is no",
    ),
    "a mode": (modules(f"{ST}Transformer", f"{ST}Pooling"), {"pooling_mode": "median"}, "the pooling 'median'"),
    "a width": (modules(f"{ST}Transformer", f"{ST}Pooling"), {"word_embedding_dimension": 7}, "states of 7 numbers"),
    "a pickle": (modules(f"{ST}Transformer", f"{ST}Pooling", f"{ST}Dense"), {}, "whose weights are no safetensors"),
}


@pytest.mark.parametrize(("listed", "pooling", "reason"), REFUSED.values(), ids=REFUSED)
def test_what_is_not_known_is_refused_by_name(tmp_path, listed, pooling, reason):
    (tmp_path / "Pooling").mkdir()
    (tmp_path / "Dense").mkdir()
    (tmp_path / "Dense" / "pytorch_model.bin").write_bytes(b"\x80")
    (tmp_path / "modules.json").write_text(json.dumps(listed))
    (tmp_path / "Pooling" / "config.json").write_text(json.dumps(pooling))
    with pytest.raises(
        ValueError, match=rf"'base' embeds texts by .*{reason}(.|\n)*\nGive another checkpoint, or a copy"
    ):
        read_item_encoding(Checkpoint("base", tmp_path, None, "folder"), HIDDEN_SIZE)


def test_a_dense_layer_of_another_width_is_refused(checkpoints, tmp_path):
    base = layout(checkpoints["bert"], tmp_path / "base", {}, ((16, "Tanh"),))
    with pytest.raises(
        ValueError, match=r"vectors of 16 numbers \(mean pooling and Dense\), where .* the 32 of its states"
    ):
        embedded(base)


def test_a_prompt_that_leaves_no_room_is_refused(checkpoints, tmp_path):
    prompts = {"config_sentence_transformers": {"prompts": {"document": "a title " * 7}}}
    base = layout(checkpoints["bert"], tmp_path / "base", {}, **prompts)
    with pytest.raises(
        ValueError, match=r"max_item_tokens=16: the checkpoint's prompt .* takes 15 of them.*\nGive at least 19"
    ):
        tiny_recommender(base)
