"""What an untrusted folder may not do: lead out of itself, cost time or memory, print escape codes, fail rawly."""

from __future__ import annotations

import base64
import json
import os
import re
import resource
import shutil
import struct
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from huggingface_hub import HfApi
from small_data import items_frame
from tiny_checkpoints import byte_pairs, word_pieces
from tiny_recommenders import randomise, tiny_recommender
from tokenizers import Regex, normalizers
from untrusted_folders import change, damage, save_kinds, sign

from llmrec.baselines.folder import read_record
from llmrec.commands.main import format_warning, run
from llmrec.data.directory import PreparedData
from llmrec.models.costs import check_tokenizer, growth
from llmrec.recommender import Recommender
from llmrec.untrusted import LIMITS, regular_files

SECRET = "the password is swordfish"
SECONDS = 10
"""Of the processor; a refusal takes a small part of one, loading these folders minutes, or all memory."""


@pytest.fixture(scope="module")
def kinds(checkpoints, tmp_path_factory) -> dict[str, Path]:
    return save_kinds(checkpoints["bert"], tmp_path_factory.mktemp("untrusted"))


@pytest.fixture
def copy(kinds, tmp_path) -> Callable[[str], Path]:
    """Copy a folder and its base."""

    def copied(kind: str) -> Path:
        shutil.copytree(kinds[kind].parent / "base", tmp_path / "base")
        return shutil.copytree(kinds[kind], tmp_path / kind)

    return copied


# Links and what is no file

READ = ["README.md", "training_settings.json", "data_manifest.json", "eval_results.json", "special_tokens_map.json"]
READ += ["tokenizer_config.json", "added_tokens.json", "chat_template.jinja", "vocab.txt", "prompt.json", "probe.json"]
READ += ["items.parquet", "adapter_model.safetensors", "config.json", "what_nobody_knows"]


@pytest.mark.parametrize("name", READ)
def test_a_link_out_of_the_folder_is_not_followed(copy, tmp_path, name):
    folder = copy("adapter")
    (tmp_path / "secret").write_text(json.dumps({"pad_token": SECRET}) if name.endswith(".json") else SECRET)
    (folder / name).unlink(missing_ok=True)
    (folder / name).symlink_to(tmp_path / "secret" if len(name) % 2 else Path("..", "secret"))
    with pytest.raises(ValueError, match=rf"'{name}' in .* is a link out of the folder") as caught:
        Recommender.from_pretrained(folder)
    assert SECRET not in str(caught.value)


def test_directories_are_no_way_out(copy, tmp_path):
    """transformers reads templates from a sub-folder; `..` and links to links end outside, too."""
    folder = copy("adapter")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "x.jinja").write_text(SECRET)
    for link, target in (("additional_chat_templates", "../out"), ("1_Pooling", "../adapter/../out"), ("a", "/")):
        (folder / link).symlink_to(target)
        with pytest.raises(ValueError, match=rf"'{link}' .* is a link out of the folder"):
            Recommender.from_pretrained(folder)
        (folder / link).unlink()
    (folder / "additional_chat_templates").mkdir()
    (folder / "additional_chat_templates" / "x.jinja").symlink_to("../../out/x.jinja")
    with pytest.raises(ValueError, match=r"'additional_chat_templates/x.jinja' .* is a link out of the folder"):
        Recommender.from_pretrained(folder)


def test_links_within_the_folder_and_to_nothing_are_allowed(copy):
    folder = copy("adapter")
    (folder / "checkpoint-1").mkdir()
    (folder / "latest").symlink_to("checkpoint-1")
    (folder / "lost").symlink_to("../nowhere")
    (folder / "README.md").rename(folder / "real")
    (folder / "README.md").symlink_to("real")
    assert Recommender.from_pretrained(folder).card == "# Mine\n"
    (folder / "circle").symlink_to("circle")
    with pytest.raises(ValueError, match=r"'circle' .* is a link out of the folder"):
        Recommender.from_pretrained(folder)


@pytest.mark.parametrize("name", ["special_tokens_map.json", "README.md", "prompt.json"])
def test_a_pipe_is_not_opened(copy, name):
    folder = copy("adapter")
    (folder / name).unlink(missing_ok=True)
    os.mkfifo(folder / name)
    with pytest.raises(ValueError, match=rf"'{name}' .* is a pipe, a socket or a device"):
        Recommender.from_pretrained(folder)


def test_a_pipe_in_an_interrupted_save_is_not_opened(copy):
    folder = copy("adapter")
    (folder / ".saved").mkdir()
    os.mkfifo(folder / ".saved" / ".gone.json")
    with pytest.raises(ValueError, match=r"'.saved/.gone.json' .* is a pipe, a socket or a device"):
        Recommender.from_pretrained(folder)


def test_a_save_that_ends_while_the_folder_is_listed_is_no_error(tmp_path, monkeypatch):
    (tmp_path / ".saved").mkdir()
    (tmp_path / "prompt.json").write_text("{}")
    listed = Path.iterdir

    def just_finished(folder: Path):
        if folder.name == ".saved":
            folder.rmdir()
        return listed(folder)

    monkeypatch.setattr(Path, "iterdir", just_finished)
    assert regular_files(tmp_path) == {"prompt.json": 2}


def test_a_device_is_not_read(copy):
    folder = copy("adapter")
    (folder / "README.md").unlink()
    (folder / "README.md").symlink_to("/dev/zero")
    with pytest.raises(ValueError, match=r"'README.md' .* is a link out"):
        Recommender.from_pretrained(folder)


def test_the_base_beside_the_folder_is_checked(copy, tmp_path):
    folder = copy("adapter")
    (tmp_path / "secret").write_text(SECRET)
    (tmp_path / "base" / "generation_config.json").symlink_to(tmp_path / "secret")
    with pytest.raises(ValueError, match=r"'generation_config.json' in .*base' is a link out"):
        Recommender.from_pretrained(folder)


def test_saving_over_a_link_writes_no_secret(copy, tmp_path):
    """The output folder may be one from elsewhere: its card and its results are carried on."""
    recommender = Recommender.from_pretrained(copy("adapter"))
    (tmp_path / "secret").write_text(SECRET)
    (out := tmp_path / "out").mkdir()
    for name in ("README.md", "eval_results.json"):
        (out / name).symlink_to(tmp_path / "secret")
    recommender.save_pretrained(out)
    assert not any(SECRET.encode() in path.read_bytes() for path in out.iterdir())
    assert (tmp_path / "secret").read_text() == SECRET


def test_the_cache_of_the_hub_holds_links_of_its_own_and_no_others(hub, kinds, tmp_path, checkpoints):
    HfApi().create_repo("tester/linked-base")
    HfApi().upload_folder(repo_id="tester/linked-base", folder_path=checkpoints["bert"])
    randomise(tiny_recommender("tester/linked-base")).save_pretrained(tmp_path / "run")
    HfApi().create_repo("tester/linked")
    commit = HfApi().upload_folder(repo_id="tester/linked", folder_path=tmp_path / "run").oid
    assert len(Recommender.from_pretrained("tester/linked").items) == 24
    snapshot = Path(HfApi().snapshot_download("tester/linked", revision=commit))
    assert (snapshot / "prompt.json").is_symlink() and len(regular_files(snapshot)) > 9
    assert len(Recommender.from_pretrained(snapshot).items) == 24  # by its path, too
    # The same form elsewhere is no cache: whoever makes a folder chooses where its links lead.
    foreign = tmp_path / "models--a--b" / "snapshots" / commit
    shutil.copytree(snapshot, foreign, symlinks=True)
    shutil.copytree(snapshot.parents[1] / "blobs", tmp_path / "models--a--b" / "blobs")
    with pytest.raises(ValueError, match="is a link out of the folder"):
        Recommender.from_pretrained(foreign)
    # And out of the repository's own part of the cache none leads.
    (tmp_path / "secret").write_text(SECRET)
    (snapshot / "added_tokens.json").symlink_to(tmp_path / "secret")
    with pytest.raises(ValueError, match=r"'added_tokens.json' .* is a link out of the folder"):
        Recommender.from_pretrained("tester/linked")


@pytest.mark.parametrize("read", [PreparedData.open, read_record])
def test_folders_of_data_and_baselines_are_checked(tmp_path, read):
    (tmp_path / "secret").write_text("{}")
    (folder := tmp_path / "folder").mkdir()
    for name in ("manifest.json", "baselines.json"):
        (folder / name).symlink_to(tmp_path / "secret")
    with pytest.raises(ValueError, match="is a link out of the folder"):
        read(folder)


# Time and memory


def many_rows(folder: Path) -> None:
    count = 11_000_000
    column = pa.DictionaryArray.from_arrays(np.zeros(count, np.int8), pa.array(["x"]))
    pq.write_table(pa.table({"item_id": column, "title": column}), folder / "items.parquet", store_schema=False)
    assert (folder / "items.parquet").stat().st_size < 100_000


def many_columns(folder: Path) -> None:
    pq.write_table(pa.table({f"c{n}": ["x"] for n in range(300)}), folder / "items.parquet")


def much_text(folder: Path) -> None:
    """Five thousand rows of a megabyte: a hundred kilobytes on disk, five gigabytes of text."""
    text = pa.DictionaryArray.from_arrays(np.zeros(5_000, np.int8), pa.array(["x" * 1_000_000]))
    table = pa.table({"item_id": [str(n) for n in range(5_000)], "title": text})
    pq.write_table(table, folder / "items.parquet", compression="zstd", store_schema=False)
    assert (folder / "items.parquet").stat().st_size < 200_000


def tokenizer(**values: object) -> Callable[[Path], None]:
    def tamper(folder: Path) -> None:
        change(folder / "tokenizer.json", **values)
        sign(folder)

    return tamper


def doubling(times: int) -> dict:
    step = {"type": "Replace", "pattern": {"String": "a"}, "content": "aa"}
    return {"type": "Sequence", "normalizers": [step] * times}


def charsmap(replacement: bytes) -> dict:
    content = struct.pack("<I", 4) + b"\0\0\0\0" + replacement + b"\0"
    return {"type": "Precompiled", "precompiled_charsmap": base64.b64encode(content).decode()}


def probe(**values: object) -> Callable[[Path], None]:
    return lambda folder: change(folder / "probe.json", **values)


def one_history(events: int, candidates: int) -> list[dict]:
    return [
        {
            "history": [{"item_id": "i01", "timestamp": 1}] * events,
            "candidates": ["i01"] * candidates,
            "scores": [0.0] * candidates,
        }
    ]


EMPTY: dict = {"history": [], "candidates": [], "scores": []}
COSTLY: list[tuple[str, str, Callable[[Path], None], str]] = [
    ("rows", "adapter", many_rows, "items.parquet has 11,000,000 rows; llmrec reads 10,000,000 at most"),
    ("columns", "adapter", many_columns, "items.parquet has 300 columns; llmrec reads 256"),
    ("text", "adapter", much_text, "items.parquet has 5,0[0-9,]* bytes of text; llmrec reads 4,294,967,296"),
    ("doubled", "adapter", tokenizer(normalizer=doubling(34)), "tokenizer.json has 2,048 growth of a text"),
    ("charsmap", "adapter", tokenizer(normalizer=charsmap(b"a" * 4_000)), "tokenizer.json has 4,000 growth of a text"),
    ("pipeline", "adapter", tokenizer(pre_tokenizer=doubling(999)), r"tokenizer.json has [\d,]+ parts of the pipeline"),
    (
        "padded",
        "adapter",
        tokenizer(padding={"strategy": {"Fixed": 10**9}}),
        "tokenizer.json has 1,000,000,000 tokens to pad to",
    ),
    (
        "header",
        "adapter",
        lambda folder: change(folder / "prompt.json", header="a" * 50_000_000),
        r"prompt.json has 50,000,\d+ bytes; llmrec reads 65,536",
    ),
    (
        "fields",
        "adapter",
        lambda folder: change(folder / "prompt.json", event="{title}" * 1_000),
        r"prompt.json has 1,\d+ fields; llmrec reads 256",
    ),
    (
        "layers of LoRA",
        "adapter",
        lambda folder: change(folder / "adapter_config.json", target_modules=[f"l{n}" for n in range(50_000)]),
        "adapter_config.json has 50,000 target modules; llmrec reads 512",
    ),
    (
        "a million layers of LoRA",
        "adapter",
        lambda folder: change(folder / "adapter_config.json", target_modules=[f"l{n}" for n in range(1_000_000)]),
        r"adapter_config.json has [\d,]+ bytes; llmrec reads 1,048,576",
    ),
    ("histories", "adapter", probe(histories=[EMPTY] * 17), "probe.json has 17 histories; llmrec reads 16"),
    (
        "100,000 histories",
        "adapter",
        probe(histories=one_history(1, 1) * 100_000),
        r"probe.json has [\d,]+ bytes; llmrec reads 1,048,576",
    ),
    ("events", "adapter", probe(histories=one_history(65, 1)), "probe.json has 65 events of a history"),
    ("candidates", "adapter", probe(histories=one_history(1, 65)), "probe.json has 65 candidates of a history"),
    (
        "layers of the base",
        "adapter",
        lambda folder: change(folder.parent / "base" / "config.json", num_hidden_layers=10_000),
        r"config.json asks for more than [\d,]+ modules",
    ),
    (
        "layers of a merged model",
        "merged",
        lambda folder: change(folder / "config.json", num_hidden_layers=10_000),
        r"config.json asks for more than [\d,]+ modules",
    ),
    (
        "positions of the base",
        "adapter",
        lambda folder: change(folder.parent / "base" / "config.json", max_position_embeddings=10**10),
        r"config.json asks for 3[\d]0,[\d,]+ weights",
    ),
    (
        "a header of weights",
        "adapter",
        lambda folder: (folder / "adapter_model.safetensors").write_bytes(struct.pack("<Q", 2**40) + b"{}"),
        "adapter_model.safetensors in .* is damaged",
    ),
]


@pytest.mark.parametrize(("kind", "tamper", "message"), [pytest.param(*case[1:], id=case[0]) for case in COSTLY])
def test_what_costs_time_or_memory_is_refused_at_once(copy, kind, tamper, message):
    folder = copy(kind)
    tamper(folder)
    memory, begun = peak(), time.process_time()
    with pytest.raises(ValueError, match=message) as caught:
        Recommender.from_pretrained(folder)
    assert time.process_time() - begun < SECONDS
    assert peak() - memory < 300 << 20
    assert len(str(caught.value)) < 1_000


def peak() -> int:
    """Bytes that this process held at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


def sparse_weights(path: Path, name: str, size: int) -> None:
    """Write a sound file of weights of which nothing is on the disk."""
    header = json.dumps({name: {"dtype": "F32", "shape": [size // 4], "data_offsets": [0, size]}}).encode()
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(header)) + header)
        file.truncate(8 + len(header) + size)


def test_weights_that_nobody_uses_are_not_read(copy):
    folder = copy("adapter")
    sparse_weights(folder / "unused.safetensors", "unused", 4 << 30)
    memory, begun = peak(), time.process_time()
    Recommender.from_pretrained(folder)
    assert peak() - memory < 300 << 20 and time.process_time() - begun < SECONDS


@pytest.mark.parametrize(
    ("kind", "name", "tensor", "message"),
    [
        ("adapter", "adapter_model.safetensors", "a.lora_A.weight", "numbers along one side of a tensor"),
        ("adapter", "item_embeddings.safetensors", "text", "was made of another items.parquet"),
        ("merged", "model.safetensors", "unused", "it holds what is never read"),
    ],
)
def test_weights_larger_than_what_they_stand_for_are_not_read(copy, kind, name, tensor, message):
    folder = copy(kind)
    sparse_weights(folder / name, tensor, 3 << 30)
    memory, begun = peak(), time.process_time()
    with pytest.raises(ValueError, match=message):
        Recommender.from_pretrained(folder)
    assert peak() - memory < 300 << 20 and time.process_time() - begun < SECONDS


def test_a_probe_without_candidates_is_said_to_verify_nothing(copy):
    folder = copy("adapter")
    change(folder / "probe.json", histories=[EMPTY])
    with pytest.warns(UserWarning, match=r"probe.json has no candidate to score: .* is not verified"):
        Recommender.from_pretrained(folder)


REAL = {
    "BERT": normalizers.BertNormalizer(),
    "Llama": normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]),
    "Gemma": normalizers.Replace(" ", "▁"),
    "XLM-R": normalizers.Sequence([normalizers.Nmt(), normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), "▁")]),
    "ALBERT": normalizers.Sequence(
        [
            *(normalizers.Replace("``", '"'), normalizers.Replace("''", '"'), normalizers.NFKD()),
            *(normalizers.StripAccents(), normalizers.Lowercase(), normalizers.Replace(Regex(" {2,}"), " ")),
        ]
    ),
    "CLIP": normalizers.Sequence([normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]),
    "ModernBERT": normalizers.NFC(),
}


@pytest.mark.parametrize("family", REAL)
def test_pipelines_of_real_tokenizers_are_read(tmp_path, family):
    made = word_pieces()
    made.backend_tokenizer.normalizer = REAL[family]
    made.save_pretrained(tmp_path)
    check_tokenizer(tmp_path)


def test_the_map_of_t5_and_byte_pairs_are_read(tmp_path):
    byte_pairs("gpt2").save_pretrained(tmp_path)
    check_tokenizer(tmp_path)
    longest = "صلى الله عليه وسلم".encode()  # what NFKC makes of one letter
    replaced = {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": "▁"}
    change(tmp_path / "tokenizer.json", normalizer={"type": "Sequence", "normalizers": [charsmap(longest), replaced]})
    check_tokenizer(tmp_path)


@pytest.mark.parametrize(
    ("pattern", "content"),
    [("a", "aa"), ("a+", "b"), (" {2,}", "__"), ("(?=a)", "a"), ("x*", "yy"), (r"\b", "-"), ("a{0,2}", "c"), ("", "z")],
)
def test_no_expression_grows_a_text_more_than_is_counted(pattern, content):
    """Against the library, over texts of all lengths up to 12."""
    step = normalizers.Replace(Regex(pattern), content)
    counted = growth({"type": "Replace", "pattern": {"Regex": pattern}, "content": content})
    for text in ("a" * 12, "b" * 12, "a b " * 3, "ab", "a", "  b  a"):
        assert len(step.normalize_str(text)) <= counted * len(text) + len(content), (text, counted)


@pytest.mark.parametrize(("times", "allowed"), [(10, True), (11, False)])
def test_the_growth_is_what_the_normaliser_does(tmp_path, times, allowed):
    """Against the library: ten doublings make 1,024 letters of one."""
    made = word_pieces()
    made.save_pretrained(tmp_path)
    change(tmp_path / "tokenizer.json", normalizer=doubling(times))
    made.backend_tokenizer.normalizer = normalizers.Sequence([normalizers.Replace("a", "aa")] * times)
    grown = len(made.backend_tokenizer.normalizer.normalize_str("a"))
    assert (grown <= LIMITS["tokenizer.json"].counts["growth of a text"]) is allowed
    if allowed:
        check_tokenizer(tmp_path)
    else:
        with pytest.raises(ValueError, match=f"{grown:,} growth of a text"):
            check_tokenizer(tmp_path)


def test_the_documentation_repeats_the_table_of_budgets():
    text = (Path(__file__).parents[2] / "docs" / "security.md").read_text(encoding="utf-8")
    told = {row[0]: row[1:] for row in re.findall(r"^\| `([^`]+)` \| ([\d,]+) \| (.*?) \|$", text, flags=re.MULTILINE)}
    wanted = {
        name: (f"{limit.bytes:,}", "; ".join(f"{number:,} {what}" for what, number in limit.counts.items()))
        for name, limit in LIMITS.items()
    }
    assert told == wanted


# Texts


def test_a_card_that_is_not_utf_8_is_read_with_a_warning(copy, tmp_path):
    folder = copy("adapter")
    (folder / "README.md").write_bytes("# Modèle\r\n".encode("latin-1"))
    with pytest.warns(UserWarning, match=r"README.md in .* is not UTF-8 \(byte 5\)"):
        recommender = Recommender.from_pretrained(folder)
    recommender.save_pretrained(tmp_path / "out")
    assert (tmp_path / "out" / "README.md").read_text(encoding="utf-8") == "# Mod\N{REPLACEMENT CHARACTER}le\n"
    with pytest.warns(UserWarning, match="is not UTF-8"):
        recommender.save_pretrained(folder)


@pytest.mark.parametrize("metadata", ["license: [", "license: &a [&b [*a, *b]]\nlanguage: {a: b}", "- 1"])
def test_metadata_of_a_card_that_cannot_be_used_is_left_out(copy, metadata):
    folder = copy("adapter")
    recommender = Recommender.from_pretrained(folder)
    (folder / "README.md").write_text(f"---\n{metadata}\n---\n<!-- llmrec card -->\n# Old\n")
    with warnings.catch_warnings(record=True):
        warnings.simplefilter("always")
        recommender.save_pretrained(folder)
    text = (folder / "README.md").read_text()
    assert "license:" not in text and "language:" not in text and "library_name: peft" in text


EVIL = "\x1b]0;owned\x07\x1b[2J\u202egnp.exe\x9b31m"
ESCAPES = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def test_inspect_and_warnings_show_escape_codes_and_do_not_send_them(copy, capsys):
    folder = copy("adapter")
    (folder / EVIL).write_text("x")
    (folder / (EVIL + "d")).mkdir()
    (folder / (EVIL + "d") / "x").write_text("x")
    change(folder / "llmrec_config.json", **{EVIL: 1})
    with pytest.warns(UserWarning, match="ignoring unknown settings") as caught:
        assert run("inspect", [str(folder)]) == 0
    told = capsys.readouterr().out
    assert "x1b]0;owned" in told and "x1b]0;owned" in str(caught[0].message)
    assert not ESCAPES.search(str(caught[0].message) + format_warning(UserWarning(EVIL)))
    change(folder / "adapter_config.json", r=EVIL, **{EVIL: EVIL})
    change(folder / "llmrec_config.json", base_model=EVIL)
    assert run("inspect", [str(folder)]) == 2
    told += capsys.readouterr().out
    with pytest.raises(ValueError, match=r"x1b"):
        Recommender.from_pretrained(folder)
    assert run("inspect", [EVIL]) == 2
    told += "".join(capsys.readouterr())
    assert not ESCAPES.search(told)


def test_errors_and_the_card_hold_no_escape_codes(copy, tmp_path):
    folder = copy("adapter")
    (folder / "README.md").write_text(f"# {EVIL}\n")
    recommender = Recommender.from_pretrained(folder)
    recommender.save_pretrained(tmp_path / "out")
    assert not ESCAPES.search((tmp_path / "out" / "README.md").read_text())
    change(folder / "probe.json", made_with={"dtype": EVIL, "versions": {"torch": EVIL}}, tolerance=0.0)
    scores = [{**one, "scores": [9e9 for _ in one["scores"]]} for one in probe_of(folder)["histories"]]
    change(folder / "probe.json", histories=scores)
    with pytest.raises(ValueError, match="dtype float32") as caught:
        Recommender.from_pretrained(folder)
    assert not ESCAPES.search(str(caught.value))


def probe_of(folder: Path) -> dict:
    return json.loads((folder / "probe.json").read_text())


def test_given_items_are_not_said_to_be_the_folders_fault(copy):
    with pytest.raises(ValueError, match="item_id 'i00' is missing or repeated"):
        Recommender.from_pretrained(copy("adapter"), items=items_frame().vstack(items_frame()))


# Damage of every kind


@pytest.mark.parametrize("first", range(0, 24, 6))
def test_a_damaged_folder_is_loaded_or_refused_by_name(kinds, tmp_path, first):
    for seed in range(first, first + 6):
        kind = list(kinds)[seed % len(kinds)]
        work = tmp_path / str(seed)
        folder = shutil.copytree(kinds[kind], work / kind)
        base = shutil.copytree(kinds[kind].parent / "base", work / "base")
        how = damage(folder, base, seed)
        begun = time.process_time()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                Recommender.from_pretrained(folder)
            except (ValueError, FileNotFoundError) as refusal:
                assert type(refusal) in (ValueError, FileNotFoundError), how
                named = [str(work), "'../base'", *LIMITS]
                assert any(name in str(refusal) for name in named), f"{how}: {refusal}"
                assert not ESCAPES.search(str(refusal)), how
        assert time.process_time() - begun < SECONDS, how


@pytest.mark.parametrize("error", [IndexError, ImportError, ZeroDivisionError, KeyError, OverflowError, RecursionError])
def test_an_error_of_a_library_becomes_a_refusal(copy, monkeypatch, error):
    folder = copy("adapter")

    def fail(*_: object) -> None:
        raise error("deep in a library\x1b[2J")

    monkeypatch.setattr("llmrec.hub.loading.load_model", fail)
    with pytest.raises(ValueError, match=rf"adapter '.*adapter' cannot be used: {error.__name__}: .*deep in") as caught:
        Recommender.from_pretrained(folder)
    assert not ESCAPES.search(str(caught.value))


def test_a_panic_becomes_a_refusal_and_an_interrupt_does_not(copy, monkeypatch):
    folder = copy("adapter")
    kind = type("PanicException", (BaseException,), {})
    for error, raised in (
        (kind("x"), ValueError),
        (KeyboardInterrupt(), KeyboardInterrupt),
        (MemoryError(), MemoryError),
    ):
        monkeypatch.setattr("llmrec.hub.loading.load_model", lambda *_, error=error: (_ for _ in ()).throw(error))
        with pytest.raises(raised):
            Recommender.from_pretrained(folder)
