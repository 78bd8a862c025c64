"""Repositories that were tampered with or damaged: each is refused on the Hub, with a message of its own."""

from __future__ import annotations

import json
import pickle
import re
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from huggingface_hub import HfApi
from safetensors.torch import load, load_file, save_file
from small_data import items_frame
from tiny_checkpoints import byte_pairs, save_checkpoint
from tiny_recommenders import randomise, tiny_recommender

from llmrec.commands.main import run
from llmrec.data.catalog import Catalog
from llmrec.hub.checks import check_base_name, check_weights
from llmrec.hub.folder import ITEM_EMBEDDINGS
from llmrec.hub.names import ADAPTER_CONFIG, ADAPTER_WEIGHTS, ITEM_TABLES, ITEMS
from llmrec.recommender import Recommender
from llmrec.storage import sha256_of

CONFIG = "llmrec_config.json"
BASE = "tester/checked-bert"


@pytest.fixture(scope="module")
def good(tmp_path_factory, checkpoints) -> Path:
    """A saved hybrid on a base that lies on the Hub with two commits; the adapter belongs to the first."""
    folder = tmp_path_factory.mktemp("checks")
    api = HfApi()
    api.create_repo(BASE)
    first = api.upload_folder(repo_id=BASE, folder_path=checkpoints["bert"]).oid
    other = save_checkpoint("bert", folder / "other", seed=1)
    second = api.upload_folder(repo_id=BASE, folder_path=other).oid
    recommender = randomise(tiny_recommender(BASE, base_revision=first))
    assert recommender.config.base_revision == first != second
    recommender.save_pretrained(folder / "good")
    (folder / "second").write_text(second)
    return folder / "good"


def change_json(name: str, **values: object) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        found = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps({**found, **values}))

    return change


def both(*changes: Callable[[Path], None]) -> Callable[[Path], None]:
    return lambda folder: [change(folder) for change in changes] and None


def change_weights(name: str, change: Callable[[dict], dict]) -> Callable[[Path], None]:
    return lambda folder: save_file(change(load_file(folder / name)), folder / name)


def lack_head_key(tensors: dict) -> dict:
    return {name: tensor for name, tensor in tensors.items() if not name.endswith("rec_head.state_projection")}


def truncate(folder: Path) -> None:
    content = (folder / ADAPTER_WEIGHTS).read_bytes()
    (folder / ADAPTER_WEIGHTS).write_bytes(content[: len(content) // 2])


UNPICKLED = Path(tempfile.gettempdir(), "llmrec-unpickled")


class Exploit:
    """Would make a folder if anybody unpickled it."""

    def __reduce__(self):
        return Path.mkdir, (UNPICKLED,)


def pickle_for_weights(folder: Path) -> None:
    (folder / ADAPTER_WEIGHTS).unlink()
    (folder / "adapter_model.bin").write_bytes(pickle.dumps(Exploit()))


def pickle_in_disguise(folder: Path) -> None:
    torch.save(load((folder / ADAPTER_WEIGHTS).read_bytes()), folder / ADAPTER_WEIGHTS)


def other_commit(folder: Path) -> None:
    commit = (folder.parent / "second").read_text()
    change_json(CONFIG, base_revision=commit)(folder)
    change_json(ADAPTER_CONFIG, revision=commit)(folder)


def not_a_number(tensors: dict) -> dict:
    name = next(name for name in sorted(tensors) if "lora_B" in name)
    tensors[name][0, 0] = float("nan")
    return tensors


def smaller_catalogue(folder: Path) -> None:
    Catalog(items_frame().head(20)).write(folder / ITEMS)


def hidden_base_weight(tensors: dict) -> dict:
    return {**tensors, "base_model.model.backbone.embeddings.word_embeddings.weight": torch.zeros(3, 32)}


EVENT = {"event": "{title.__class__.__mro__}", "item": "{title}"}
TAMPERED: dict[str, tuple[Callable[[Path], None], str]] = {
    "missing head key": (change_weights(ADAPTER_WEIGHTS, lack_head_key), r"incomplete: it lacks .*state_projection"),
    "truncated safetensors": (truncate, rf"{ADAPTER_WEIGHTS} .* is damaged or was cut short"),
    "pickle instead of safetensors": (pickle_for_weights, r"has adapter_model.bin, a pickle, for weights"),
    "pickle named safetensors": (pickle_in_disguise, rf"{ADAPTER_WEIGHTS} .* is a pickle"),
    "absolute base path": (
        both(
            change_json(CONFIG, base_model="/home/me/bert"),
            change_json(ADAPTER_CONFIG, base_model_name_or_path="/home/me/bert"),
        ),
        r"base_model '/home/me/bert' is a path of one machine",
    ),
    "base beside the folder": (
        both(change_json(CONFIG, base_model="../b"), change_json(ADAPTER_CONFIG, base_model_name_or_path="../b")),
        r"base_model '../b' is a path of one machine",
    ),
    "regex as target modules": (change_json(ADAPTER_CONFIG, target_modules="(a+)+$"), "regular expression"),
    "regex in target modules": (change_json(ADAPTER_CONFIG, target_modules=["(a+)+$"]), "no plain layer name"),
    "regex in rank_pattern": (change_json(ADAPTER_CONFIG, rank_pattern={"(a+)+$": 9}), "rank_pattern=.*not the def"),
    "r = 100000": (change_json(ADAPTER_CONFIG, r=100_000), r"r=100000 is no rank in 1..512"),
    "a module of its own": (change_json(ADAPTER_CONFIG, modules_to_save=["backbone"]), "more than the heads"),
    "another kind of adapter": (change_json(ADAPTER_CONFIG, peft_type="IA3"), "peft_type='IA3' is not LORA"),
    "megatron": (change_json(ADAPTER_CONFIG, megatron_config={"a": 1}), "megatron_config=.*not the default"),
    "replicated layers": (change_json(ADAPTER_CONFIG, layer_replication=[[0, 9]]), "layer_replication=.*not the def"),
    "two bases": (change_json(ADAPTER_CONFIG, base_model_name_or_path="a/b"), "is another base than the 'tester"),
    "template reaching attributes": (
        change_json("prompt.json", **EVENT),
        r"'\{title.__class__.__mro__\}' .* bare name",
    ),
    "newer format": (change_json(CONFIG, format_version=99), r"format_version 99; this release reads"),
    "other tokenizer": (lambda folder: byte_pairs("llama").save_pretrained(folder), "tokenizer.json .* not the one"),
    "other base commit": (other_commit, r"commit [0-9a-f]{40}\) has other weights than the adapter was"),
    "catalogue of other size": (smaller_catalogue, r"was made of another items.parquet"),
    "NaN weights": (change_weights(ADAPTER_WEIGHTS, not_a_number), r"'base_model.*lora_B.* are no numbers"),
    "base weights in the adapter": (change_weights(ADAPTER_WEIGHTS, hidden_base_weight), "neither LoRA nor a head"),
}


@pytest.mark.parametrize("case", sorted(TAMPERED))
def test_a_tampered_repository_is_refused(hub, good, tmp_path, case):
    tamper, message = TAMPERED[case]
    folder = good.parent / "tampered"
    shutil.copytree(good, folder)
    try:
        tamper(folder)
        name = f"{hub.user}/{'-'.join(re.findall('[A-Za-z0-9]+', case))}"
        HfApi().create_repo(name)
        HfApi().upload_folder(repo_id=name, folder_path=folder)
        hub.requests.clear()
        for source in (name, folder) if "beside" not in case else (name,):
            with pytest.raises((ValueError, FileNotFoundError), match=message):
                Recommender.from_pretrained(source)
    finally:
        shutil.rmtree(folder)
    assert not UNPICKLED.exists()
    assert not any(path.endswith(".bin") for _, path in hub.requests)


@pytest.mark.parametrize("length", [640, 1664])
def test_weights_whose_header_is_as_long_as_a_pickle_begins_are_read(tmp_path, length):
    """The first byte of both lengths is 0x80, and those of 640 are a pickle's of protocol 2."""
    save_file({"base_model.model.rec_head.bias": torch.ones(2)}, path := tmp_path / ADAPTER_WEIGHTS)
    pad_header(path, length)
    assert path.read_bytes()[:2] in (b"\x80\x02", b"\x80\x06")
    check_weights(path)


def test_an_adapter_whose_header_is_as_long_as_a_pickle_begins_is_loaded(good, tmp_path):
    folder = shutil.copytree(good, tmp_path / "run")
    shutil.copy(folder / ADAPTER_WEIGHTS, before := tmp_path / "before")
    pad_header(folder / ADAPTER_WEIGHTS)
    (folder / ITEM_TABLES).unlink()  # they name the bytes of the weights
    (folder / ITEM_EMBEDDINGS).unlink()
    change_json(CONFIG, hybrid=False)(folder)
    assert load_file(before).keys() == load_file(folder / ADAPTER_WEIGHTS).keys()
    assert len(Recommender.from_pretrained(folder, verify=False).items) == 24


def pad_header(path: Path, length: int | None = None) -> None:
    """Fill the header with blanks, as safetensors itself does, to the next length that begins with 0x80."""
    content = path.read_bytes()
    old = int.from_bytes(content[:8], "little")
    new = length or next(n for n in range(old, old + 512) if n % 256 == 0x80)
    path.write_bytes(new.to_bytes(8, "little") + content[8 : 8 + old].ljust(new) + content[8 + old :])


def test_every_message_is_its_own():
    messages = [message for _, message in TAMPERED.values()]
    assert len(set(messages)) == len(messages) >= 12


def test_the_untouched_repository_loads(hub, good):
    HfApi().create_repo(f"{hub.user}/untouched")
    HfApi().upload_folder(repo_id=f"{hub.user}/untouched", folder_path=good)
    Recommender.from_pretrained(f"{hub.user}/untouched")


@pytest.mark.parametrize(
    ("name", "part"),
    [
        (ITEM_TABLES, "items.parquet"),
        (ITEM_EMBEDDINGS, "items.parquet"),
        ("prompt.json", "prompt.json"),
        (ADAPTER_WEIGHTS, "adapter_model.safetensors"),
    ],
)
def test_tensors_of_another_save_are_not_used(good, tmp_path, name, part):
    """The catalogue of the other is of the same size, its texts others."""
    other = randomise(tiny_recommender(BASE, Catalog(items_frame(25).tail(24)), template="vectors"), seed=2)
    other.config.base_revision = json.loads((good / CONFIG).read_text())["base_revision"]
    other.save_pretrained(tmp_path / "other")
    shutil.copytree(good, tmp_path / "mixed")
    shutil.copy(tmp_path / "other" / name, tmp_path / "mixed" / name)
    with pytest.raises(ValueError, match=rf"was made of another .*{part}"):
        Recommender.from_pretrained(tmp_path / "mixed", verify=False)


def test_an_absolute_base_is_overridden_by_the_caller(good, tmp_path):
    folder = shutil.copytree(good, tmp_path / "run")
    TAMPERED["absolute base path"][0](folder)
    revision = json.loads((good / CONFIG).read_text())["base_revision"]
    base = HfApi().snapshot_download(BASE, revision=revision)
    assert len(Recommender.from_pretrained(folder, base_model=base).items) == 24


@pytest.mark.parametrize("name", ["/a", "~/a", "C:\\a", "\\\\host\\a"])
def test_paths_are_no_names_of_bases(name):
    with pytest.raises(ValueError, match="path of one machine"):
        check_base_name(name)


@pytest.mark.parametrize(("version", "hybrid"), [(1, False), (2, False), (2, True)])
def test_a_folder_of_an_older_format_is_read_and_saved_as_the_newest(checkpoints, tmp_path, version, hybrid):
    """They had no probe, their tensors no more than the digest of the items, and 1 knew no popularity weight."""
    weight = {"popularity_weight": 0.0} if hybrid else {}  # another weight means another score since version 4
    new = randomise(tiny_recommender(checkpoints["bert"], hybrid=hybrid, **weight))
    new.save_pretrained(folder := tmp_path / "run")
    settings = json.loads((folder / CONFIG).read_text()) | {"format_version": version}
    if version == 1:
        del settings["popularity_weight"]
    (folder / CONFIG).write_text(json.dumps(settings))
    (folder / "probe.json").unlink()
    for name in (ITEM_TABLES, ITEM_EMBEDDINGS) if hybrid else (ITEM_EMBEDDINGS,):
        save_file(load_file(folder / name), folder / name, {ITEMS: sha256_of(folder / ITEMS)})
    old, history = Recommender.from_pretrained(folder), [{"item_id": "i03"}]
    assert old.score(history, ["i05"]) == pytest.approx(new.score(history, ["i05"]), abs=1e-6)
    old.save_pretrained(folder)
    assert json.loads((folder / CONFIG).read_text())["format_version"] == 6 and (folder / "probe.json").is_file()
    smaller_catalogue(folder)
    with pytest.raises(ValueError, match=r"another items.parquet"):
        Recommender.from_pretrained(folder)


def test_inspect_tells_what_would_happen_and_downloads_no_weights(hub, good, tmp_path, capsys):
    folder = shutil.copytree(good, tmp_path / "run")
    (folder / "run.py").write_text("raise SystemExit")
    (folder / "optimizer.pt").write_bytes(b"\x80")
    (folder / "checkpoint-1" / "more").mkdir(parents=True)
    for file in ("scheduler.pt", "more/rng.pth"):
        (folder / "checkpoint-1" / file).write_bytes(b"\x80")
    name = f"{hub.user}/inspected"
    HfApi().create_repo(name)
    HfApi().upload_folder(repo_id=name, folder_path=folder)
    hub.requests.clear()
    assert run("inspect", [name]) == 0
    printed = capsys.readouterr().out
    revision = json.loads((good / CONFIG).read_text())["base_revision"]
    for text in (
        f"base model: {BASE} {revision}",
        "never read: .gitattributes, README.md, checkpoint-1/, optimizer.pt, run.py\n",
        "LoRA r=4 on ['query', 'value'], heads ['rec_head']",
        f"{(good / ADAPTER_WEIGHTS).stat().st_size:,} bytes  {ADAPTER_WEIGHTS}",
        "event '",
    ):
        assert text in printed, printed
    read = {path.rpartition("/")[2] for method, path in hub.requests if method == "GET" and "/resolve/" in path}
    assert read <= {ADAPTER_CONFIG, CONFIG, "prompt.json"}
    assert run("inspect", ["--model", str(good)]) == 0


@pytest.mark.parametrize(
    "case",
    ["r = 100000", "regex as target modules", "absolute base path", "template reaching attributes", "newer format"],
)
def test_inspect_tells_why_it_would_be_refused(hub, good, tmp_path, capsys, case):
    folder = shutil.copytree(good, tmp_path / "run")
    TAMPERED[case][0](folder)
    assert run("inspect", [str(folder)]) == 2
    assert "refused: " in capsys.readouterr().out


def test_the_token_is_never_told(hub, capsys):
    """Not by errors, whoever asked with which token."""
    secret = "hf_secret_of_somebody"
    with pytest.raises((FileNotFoundError, PermissionError)) as caught:
        Recommender.from_pretrained("nobody/nothing", token=secret)
    assert secret not in str(caught.value) and secret not in "".join(capsys.readouterr())
