from __future__ import annotations

import json
import re
import warnings
from dataclasses import asdict, fields

import pytest

from llmrec.configuration import CONFIG_NAME, ItemEncoding, MemoryWeights, RecommenderConfig

NAME = "sentence-transformers/all-MiniLM-L6-v2"


def write(folder, **values) -> None:
    (folder / CONFIG_NAME).write_text(json.dumps(values), encoding="utf-8")


def valid(**changes) -> dict:
    return {**asdict(RecommenderConfig(base_model=NAME)), **changes}


def test_what_was_saved_is_loaded(tmp_path):
    config = RecommenderConfig(
        base_model=NAME,
        base_revision="abc",
        base_sha256="0" * 64,
        hybrid=False,
        popularity_weight=0.25,
        like_rate=0.4,
        mask_seen=False,
        pooling="last",
        max_tokens=100,
        max_vector_events=0,
        window_overlap=0.25,
        head="cross",
        max_item_tokens=9,
        item_encoding=ItemEncoding(pooling=["cls"], prompt="passage: ", layers=["Tanh"]),
        max_candidate_tokens=10,
        has_clock=False,
        time_embedding=["hour", "gap"],
        merged=True,
        adapted_on={"steps": 3},
        memory=MemoryWeights(own=1.5, own_decay=0.9),
    )
    defaults = RecommenderConfig(base_model=NAME)
    same = [field.name for field in fields(config) if getattr(config, field.name) == getattr(defaults, field.name)]
    assert same == ["base_model", "format_version"]  # each other setting is tried away from its default
    config.save(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert RecommenderConfig.load(tmp_path) == config


def test_the_file_is_sorted_json(tmp_path):
    RecommenderConfig(base_model=NAME).save(tmp_path)
    text = (tmp_path / CONFIG_NAME).read_text(encoding="utf-8")
    assert text.endswith("}\n")
    assert list(json.loads(text)) == sorted(json.loads(text))
    assert json.loads(text)["format_version"] == 6


def test_version_1_is_read_unless_it_is_a_hybrid_whose_items_were_not_counted(tmp_path):
    old = valid(format_version=1, hybrid=False)
    del old["popularity_weight"]
    write(tmp_path, **old)
    assert RecommenderConfig.load(tmp_path) == RecommenderConfig(base_model=NAME, hybrid=False)
    write(tmp_path, **{**old, "hybrid": True})
    with pytest.raises(ValueError, match=r"no training counts of their items.\nTrain the adapter again"):
        RecommenderConfig.load(tmp_path)


@pytest.mark.parametrize("settings", [{"hybrid": False}, {"popularity_weight": 0.0}])
def test_version_3_is_read_unless_it_ranks_by_the_popularity_of_then(tmp_path, settings):
    write(tmp_path, **valid(format_version=3, **settings))
    assert RecommenderConfig.load(tmp_path) == RecommenderConfig(base_model=NAME, **settings)
    write(tmp_path, **{**valid(format_version=3), "hybrid": True, "popularity_weight": 0.5})
    with pytest.raises(ValueError, match=r"rank by popularity in another way.\nTrain the adapter again"):
        RecommenderConfig.load(tmp_path)


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        (None, True),
        ({}, True),
        ({"mask_seen": True}, True),
        ({"mask_seen": False}, False),
        ({"mask_seen": "false"}, True),
    ],
)
def test_before_it_was_saved_the_mask_stands_in_the_record_of_the_training(tmp_path, record, expected):
    old = valid()
    del old["mask_seen"]
    write(tmp_path, **old)
    if record is not None:
        (tmp_path / "training_settings.json").write_text(json.dumps(record))
    assert RecommenderConfig.load(tmp_path).mask_seen is expected
    write(tmp_path, **valid(mask_seen=not expected))  # what is saved with the adapter decides
    assert RecommenderConfig.load(tmp_path).mask_seen is not expected


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("head", "linear"),
        ("pooling", "max"),
        ("max_tokens", 7),
        ("max_vector_events", -1),
        ("window_overlap", 1.0),
        ("window_overlap", -0.1),
        ("window_overlap", float("nan")),
        ("max_item_tokens", 3),
        ("like_rate", 0.0),
        ("like_rate", 1.0),
    ],
)
def test_values_out_of_range_are_refused_by_name_and_value(tmp_path, name, value):
    with pytest.raises(ValueError, match=f"{name}={value!r}"):
        RecommenderConfig(base_model=NAME, **{name: value})
    write(tmp_path, **valid(**{name: value}))
    with pytest.raises(ValueError, match=name):
        RecommenderConfig.load(tmp_path)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_tokens", "256"),
        ("max_tokens", None),
        ("window_overlap", "half"),
        ("max_vector_events", [1]),
        ("like_rate", "half"),
        ("mask_seen", "false"),
        ("mask_seen", None),
        ("head", None),
    ],
)
def test_values_of_another_kind_are_refused(tmp_path, name, value):
    write(tmp_path, **valid(**{name: value}))
    with pytest.raises((ValueError, TypeError), match=name):
        RecommenderConfig.load(tmp_path)


def test_a_setting_of_a_newer_release_warns_and_is_dropped(tmp_path):
    write(tmp_path, **valid(next_setting=True, aa=1))
    with pytest.warns(UserWarning, match="ignoring unknown settings aa, next_setting"):
        assert RecommenderConfig.load(tmp_path) == RecommenderConfig(base_model=NAME)


@pytest.mark.parametrize("version", [0, 7, None, "1", []])
def test_another_format_is_refused(tmp_path, version):
    write(tmp_path, **valid(format_version=version))
    with pytest.raises(
        ValueError, match=rf"format_version {re.escape(repr(version))}; this release reads 6(.|\n)*Upgrade"
    ):
        RecommenderConfig.load(tmp_path)


def test_a_missing_setting_that_has_no_default_is_named(tmp_path):
    write(tmp_path, **{name: value for name, value in valid().items() if name != "base_model"})
    with pytest.raises(ValueError, match="lacks base_model"):
        RecommenderConfig.load(tmp_path)


def test_a_missing_setting_with_a_default_takes_it(tmp_path):
    write(tmp_path, **{name: value for name, value in valid().items() if name != "has_clock"})
    assert RecommenderConfig.load(tmp_path).has_clock


@pytest.mark.parametrize("content", ["", "{", "[]", "null", '"text"', "3"])
def test_a_file_that_is_no_configuration_is_refused(tmp_path, content):
    (tmp_path / CONFIG_NAME).write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match=CONFIG_NAME):
        RecommenderConfig.load(tmp_path)


def test_a_folder_without_configuration_is_no_adapter(tmp_path):
    with pytest.raises(FileNotFoundError, match=rf"is no llmrec adapter: it has no {CONFIG_NAME}(.|\n)*llmrec train"):
        RecommenderConfig.load(tmp_path)
