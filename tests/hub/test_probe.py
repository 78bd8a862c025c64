from __future__ import annotations

import dataclasses
import itertools
import json
import time

import pytest
import torch
from small_data import START, items_frame
from tiny_recommenders import randomise, tiny_recommender

from llmrec.data.catalog import Catalog
from llmrec.hub.probe import INVENTED, TOLERANCE, likely_cause, make_probe, questions, replay
from llmrec.models.adapter import inner
from llmrec.recommender import Recommender


@pytest.fixture(scope="module")
def saved(checkpoints, tmp_path_factory):
    recommender = randomise(tiny_recommender(checkpoints["bert"]))
    recommender.save_pretrained(tmp_path_factory.mktemp("probe") / "run")
    return recommender, next(tmp_path_factory.getbasetemp().glob("probe*")) / "run"


def test_histories_are_catalogue_items_by_hash_and_invented_words(saved):
    probe = json.loads((saved[1] / "probe.json").read_text())
    catalog = Catalog(items_frame())
    words = set(INVENTED)
    ids = []
    for entry in probe["histories"]:
        for event in entry["history"]:
            if "item_id" in event:
                ids.append(event["item_id"])
            else:
                assert set(event) - {"timestamp"} == {"title", "brand", "genres"} and event["title"] in words
    assert set(ids) <= set(catalog.ids)
    moments = [event["timestamp"] for event in probe["histories"][2]["history"]]
    assert [two - one for one, two in itertools.pairwise(moments)] == [3600, 259200, 3456000, 3600]


def test_the_draw_depends_on_the_items_alone():
    frame = items_frame()
    shuffled = Catalog(frame.sample(fraction=1, shuffle=True, seed=3))
    assert questions(Catalog(frame), True) == questions(shuffled, True)


def test_without_a_catalogue_the_probe_names_no_item(saved):
    asked = json.dumps(questions(Catalog(items_frame()), False))
    assert "item_id" not in asked
    assert not any(title in asked for title in items_frame()["title"])


def test_expected_scores_are_those_of_the_recommender(saved):
    recommender, folder = saved
    for entry in json.loads((folder / "probe.json").read_text())["histories"]:
        found = recommender.score(entry["history"], entry["candidates"], entry["now"])
        assert found == pytest.approx(entry["scores"], abs=1e-4)
        assert len(entry["scores"]) >= 2


def test_loading_replays_it_in_time(saved):
    began = time.process_time()
    Recommender.from_pretrained(saved[1])
    with_probe = time.process_time() - began
    began = time.process_time()
    Recommender.from_pretrained(saved[1], verify=False)
    assert with_probe - (time.process_time() - began) < 2


@pytest.mark.parametrize("part", ["lora_A", "lora_B", "rec_head", "input_residual", "output_residual", "bias", "text"])
def test_any_part_that_changed_is_found_out(checkpoints, part):
    recommender = randomise(tiny_recommender(checkpoints["bert"]))
    now = {"dtype": "float32", "versions": {}}
    probe = make_probe(recommender.open, recommender.items, True, now)
    replay(probe, recommender.open, now)
    tensors = dict(recommender.model.named_parameters()) | {"rec_items.text": inner(recommender.model).rec_items.text}
    changed = [tensor for name, tensor in tensors.items() if part in name and "original" not in name]
    with torch.no_grad():
        for tensor in changed:
            tensor += 0.05 * torch.randn(tensor.shape, generator=torch.Generator().manual_seed(0))
    with pytest.raises(ValueError, match=r"differs by [\d.e+-]+, more than 0.001"):
        replay(probe, recommender.open, now)


def test_a_nan_is_the_largest_difference(saved):
    probe = json.loads((saved[1] / "probe.json").read_text())

    class Broken:
        def score(self, candidates, now=None):
            return [float("nan"), *[0.0] * (len(candidates) - 1)]

    with pytest.raises(ValueError, match="differs by nan"):
        replay(probe, lambda _: Broken(), probe["made_with"])


@pytest.mark.parametrize("offset", [0.9 * TOLERANCE, 1.1 * TOLERANCE])
def test_the_tolerance_parts_right_from_wrong(saved, offset):
    recommender, folder = saved
    probe = json.loads((folder / "probe.json").read_text())
    probe["histories"][1]["scores"] = [score + offset for score in probe["histories"][1]["scores"]]
    if offset < TOLERANCE:
        return replay(probe, recommender.open, probe["made_with"])
    with pytest.raises(ValueError, match=r"differs by 0\.0011"):
        replay(probe, recommender.open, probe["made_with"])


def test_half_precision_is_named_as_the_cause(saved):
    probe = json.loads((saved[1] / "probe.json").read_text())
    loaded = Recommender.from_pretrained(saved[1])
    inner(loaded.model).backbone.to(torch.bfloat16)
    then, now = probe["made_with"], loaded._circumstances()
    assert now["dtype"] == "bfloat16"
    assert likely_cause(then, now).startswith("dtype bfloat16 (was float32)")


def test_causes_are_told_with_the_likeliest_first():
    then = {"base_sha256": "a", "base_revision": "1", "device": "cpu", "dtype": "float32", "versions": {"torch": "2"}}
    now = {**then, "base_sha256": "b", "base_revision": "2", "device": "cuda", "versions": {"torch": "3"}}
    assert likely_cause(then, now) == (
        "base weights b (was a); base commit 2 (was 1); device cuda (was cpu); torch 3 (was 2)"
    )


def test_a_candidate_that_is_too_long_is_left_out(checkpoints, tmp_path):
    recommender = randomise(tiny_recommender(checkpoints["llama"], head="cross", max_candidate_tokens=8))
    recommender.save_pretrained(tmp_path / "run")
    entries = json.loads((tmp_path / "run" / "probe.json").read_text())["histories"]
    asked = sum(len(candidates) for _, candidates in questions(recommender.items, True))
    assert 0 < sum(len(entry["candidates"]) for entry in entries) < asked
    Recommender.from_pretrained(tmp_path / "run")


def test_saving_in_the_middle_of_training_leaves_training_on(checkpoints, tmp_path):
    recommender = tiny_recommender(checkpoints["bert"])
    recommender.model.train()
    recommender.save_pretrained(tmp_path / "run")
    assert recommender.model.training and inner(recommender.model).rec_items.training


def test_another_popularity_weight_is_another_probe(saved, tmp_path):
    recommender = Recommender.from_pretrained(saved[1])
    recommender.popularity_weight = 0.5
    recommender.save_pretrained(saved[1].parent / "half")
    again = Recommender.from_pretrained(saved[1].parent / "half")
    assert again.popularity_weight == 0.5
    history = [{"item_id": "i00", "timestamp": START}]
    assert again.score(history, ["i01"]) == pytest.approx(recommender.score(history, ["i01"]), abs=1e-5)
    assert dataclasses.asdict(again.config) != dataclasses.asdict(saved[0].config)
