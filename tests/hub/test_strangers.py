"""What else a stranger's folder may try: each setting is refused in llmrec's own words, and no code is run."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file
from small_data import items_frame
from tiny_checkpoints import save_checkpoint
from tiny_recommenders import randomise, rec_model, tiny_recommender

from llmrec.recommender import Recommender
from llmrec.storage import sha256_of
from llmrec.untrusted import LIMITS

ADAPTER, SETTINGS, TOKENIZER, PROMPT = "adapter_config.json", "llmrec_config.json", "tokenizer.json", "prompt.json"
WEIGHTS = "adapter_model.safetensors"


@pytest.fixture(scope="module")
def saved(checkpoints, tmp_path_factory) -> dict[str, Path]:
    """Folders of an adapter, of one that reads time, and of a merged model; copy one before changing it."""
    folder = tmp_path_factory.mktemp("strangers")
    base = shutil.copytree(checkpoints["bert"], folder / "base")
    adapter = randomise(tiny_recommender(base))
    timed = randomise(tiny_recommender(base, template="time", time_embedding=["gap", "hour"]))
    made = {"adapter": adapter, "timed": timed, "merged": adapter.merge()}
    for name, recommender in made.items():
        recommender.save_pretrained(folder / name)
    return {name: folder / name for name in made}


@pytest.fixture
def copy(saved) -> Callable[[str], Path]:
    """Copy a folder, beside it so that the base's relative name still holds."""
    made = []

    def copied(kind: str) -> Path:
        made.append(shutil.copytree(saved[kind], saved[kind].parent / f"copy{len(made)}"))
        return made[-1]

    yield copied
    for folder in made:
        shutil.rmtree(folder)


def change(folder: Path, name: str, values: dict) -> None:
    found = json.loads((folder / name).read_text()) if (folder / name).exists() else {}
    (folder / name).write_text(json.dumps({**found, **values}))


REFUSED: list[tuple[str, str, dict, str]] = [
    ("adapter", ADAPTER, {"task_type": "CAUSAL_LM"}, "task_type='CAUSAL_LM' is not the default"),
    ("adapter", ADAPTER, {"modules_to_save": [{"a": 1}]}, r"modules_to_save=\[\{'a': 1\}\] names more than the heads"),
    ("adapter", ADAPTER, {"modules_to_save": []}, r"modules_to_save=\[\] is not \['rec_head'\], the heads that"),
    ("timed", ADAPTER, {"modules_to_save": ["rec_head"]}, r"is not \['rec_head', 'rec_time'\], the heads that"),
    ("adapter", ADAPTER, {"r": True}, r"r=True is no rank in 1..512"),
    ("adapter", ADAPTER, {"r": "4"}, r"r='4' is no rank in 1..512"),
    ("adapter", ADAPTER, {"lora_alpha": "x"}, r"lora_alpha='x' is no number above 0"),
    ("adapter", ADAPTER, {"lora_alpha": float("nan")}, r"lora_alpha=nan is no number above 0"),
    ("adapter", ADAPTER, {"lora_alpha": 1e30}, r"lora_alpha=1e\+30 is no number above 0, at most 65536"),
    ("adapter", ADAPTER, {"lora_dropout": [2]}, r"lora_dropout=\[2\] is no share in \[0, 1\)"),
    ("adapter", ADAPTER, {"target_modules": ["nowhere"]}, r"does not fit its base: No modules(.|\n)*base_model="),
    ("adapter", ADAPTER, {"target_modules": ["query", "value", "key"]}, "incomplete: Found missing adapter keys"),
    ("adapter", ADAPTER, {"exclude_modules": "(a+)+$"}, r"exclude_modules='\(a\+\)\+\$' is not the default"),
    ("adapter", ADAPTER, {"layers_pattern": "(a+)+$"}, "layers_pattern=.* is not the default"),
    ("adapter", ADAPTER, {"alpha_pattern": {"(a+)+$": 1}}, "alpha_pattern=.* is not the default"),
    ("adapter", ADAPTER, {"init_lora_weights": "pissa"}, "init_lora_weights='pissa' is not the default"),
    ("adapter", ADAPTER, {"use_dora": True}, "use_dora=True is not the default"),
    ("adapter", ADAPTER, {"loftq_config": {"a": 1}}, "loftq_config=.* is not the default"),
    ("adapter", ADAPTER, {"trainable_token_indices": [1]}, "trainable_token_indices=.* is not the default"),
    ("adapter", ADAPTER, {"target_parameters": ["a"]}, "target_parameters=.* is not the default"),
    ("adapter", ADAPTER, {"anything_new": "x"}, "anything_new='x' is not the default"),
    ("adapter", SETTINGS, {"base_model": ["a"]}, r"base_model=\['a'\] is not text"),
    ("adapter", SETTINGS, {"base_model": None}, r"base_model=None is not text"),
    ("adapter", SETTINGS, {"base_revision": 3}, "base_revision=3 is not text or null"),
    ("adapter", SETTINGS, {"base_revision": "../../main"}, r"base_revision='../../main' is no commit"),
    ("adapter", SETTINGS, {"hybrid": "no"}, "hybrid='no' is not true or false"),
    ("adapter", SETTINGS, {"merged": "yes"}, "merged='yes' is not true or false"),
    ("adapter", SETTINGS, {"has_clock": 1}, "has_clock=1 is not true or false"),
    ("adapter", SETTINGS, {"time_embedding": [["gap"]]}, r"time_embedding=\[\['gap'\]\] is no list of some of"),
    ("adapter", SETTINGS, {"max_tokens": 10**9}, "max_tokens=1000000000 .* exceed the 1024 positions"),
    ("adapter", SETTINGS, {"max_vector_events": 10**9}, "max_vector_events=1000000000 exceed the 1024 positions"),
    ("adapter", PROMPT, {"event": "{title:>1000000000}"}, r"field '\{title:>1000000000\}' .* is not a bare name"),
    ("adapter", PROMPT, {"event": "{title!r}"}, r"field '\{title!r\}' .* is not a bare name"),
    ("adapter", PROMPT, {"event": "{title[0]}"}, "unbalanced|is not a bare name"),
    ("adapter", PROMPT, {"event": "{0}"}, r"field '\{0\}' .* is not a bare name"),
    ("adapter", PROMPT, {"event": "{__class__}"}, r"needs \['__class__'\], which the items do not have"),
    ("adapter", PROMPT, {"item": "{password}"}, r"needs \['password'\], which the items do not have"),
    ("adapter", PROMPT, {"answers": 5}, "answers 5: give two different words"),
    ("adapter", PROMPT, {"answers": [{}, {}]}, "answers .*: give two different words"),
    ("adapter", "tokenizer_config.json", {"tokenizer_class": 3}, "has no tokenizer that can be read"),
    ("adapter", "tokenizer_config.json", {"model_max_length": "x"}, "has no tokenizer that can be read"),
    (
        "adapter",
        "probe.json",
        {"tolerance": 1e9},
        r"tolerance 1000000000.0 is not in \[0, 0.1\]: nothing would be proved",
    ),
    ("adapter", "probe.json", {"tolerance": "x"}, r"tolerance 'x' is not in"),
    ("adapter", "probe.json", {"histories": []}, "holds no histories with a score per candidate"),
    ("adapter", "probe.json", {"histories": "x"}, "holds no histories with a score per candidate"),
    (
        "merged",
        ADAPTER,
        {"peft_type": "LORA", "base_model_name_or_path": "a/b"},
        f"a merged model and {ADAPTER}: delete",
    ),
    ("merged", "config.json", {"quantization_config": {"quant_method": "x"}}, "quantization_config is refused"),
    ("merged", "config.json", {"vocab_size": 2**40}, r"asks for 35,184,[\d,]* weights, .*(.|\n)*do not go together"),
    (
        "merged",
        "config.json",
        {"num_hidden_layers": 10**9},
        "no model that can be built: config.json asks for more than [\\d,]+ modules",
    ),
    ("merged", "config.json", {"num_hidden_layers": 3}, "layer.2.* should be .*, found nothing"),
    ("merged", "config.json", {"hidden_act": "zz"}, "no model that can be built: 'zz'"),
    ("merged", "config.json", {"num_attention_heads": 0}, "no model that can be built"),
    (
        "merged",
        "config.json",
        {"model_type": "evil"},
        "config.json .* is none of an architecture that transformers has",
    ),
]


@pytest.mark.parametrize(("kind", "name", "values", "message"), REFUSED)
def test_what_no_adapter_needs_is_refused(copy, kind, name, values, message):
    folder = copy(kind)
    change(folder, name, values)
    with pytest.raises(ValueError, match=message):
        Recommender.from_pretrained(folder)


@pytest.mark.parametrize("name", [ADAPTER, SETTINGS, PROMPT, "probe.json", "data_manifest.json"])
def test_json_that_exhausts_its_reader_is_refused(copy, name):
    folder = copy("adapter")
    depth = min(100_000, LIMITS[name].bytes // 8)
    (folder / name).write_text('{"a":' * depth + "1" + "}" * depth)
    with pytest.raises(ValueError, match=rf"{name} .* is no JSON object"):
        Recommender.from_pretrained(folder)
    with (folder / name).open("wb") as file:
        file.truncate((limit := LIMITS[name].bytes) + 1)  # no byte of it is written, or read
    with pytest.raises(ValueError, match=rf"{name} has {limit + 1:,} bytes; llmrec reads {limit:,} at most"):
        Recommender.from_pretrained(folder)


def test_weights_of_a_header_without_end_are_refused(copy):
    folder = copy("adapter")
    (folder / WEIGHTS).write_bytes((2**62).to_bytes(8, "little") + b"{}")
    with pytest.raises(ValueError, match=rf"{WEIGHTS} .* is damaged or was cut short"):
        Recommender.from_pretrained(folder)


def test_an_embedding_of_time_that_is_missing_is_named(copy):
    folder = copy("timed")
    tensors = load_file(folder / WEIGHTS)
    save_file({name: tensor for name, tensor in tensors.items() if "rec_time" not in name}, folder / WEIGHTS)
    with pytest.raises(ValueError, match=r"is incomplete: it lacks rec_time.weight"):
        Recommender.from_pretrained(folder)


def test_a_tokenizer_that_is_none_is_refused(copy):
    folder = copy("adapter")
    (folder / TOKENIZER).write_text("{}")
    change(folder, "probe.json", {TOKENIZER: sha256_of(folder / TOKENIZER)})
    with pytest.raises(ValueError, match="has no tokenizer that can be read"):
        Recommender.from_pretrained(folder)


def test_a_link_to_what_is_no_adapters_file_is_refused_and_not_told(copy, tmp_path):
    """Git and archives hold links; what is behind one must not come out in a message."""
    (tmp_path / "secret").write_text("the password is swordfish")
    for name in (PROMPT, SETTINGS, "items.parquet", WEIGHTS):
        folder = copy("adapter")
        (folder / name).unlink()
        os.symlink(tmp_path / "secret", folder / name)
        with pytest.raises(ValueError, match=name) as caught:
            Recommender.from_pretrained(folder)
        assert "swordfish" not in str(caught.value)


CODE = (
    "from pathlib import Path\nPath(__file__).with_name('ran').touch()\nclass Model: pass\nTokenizer = Config = Model\n"
)
AUTO = {"AutoConfig": "evil.Config", "AutoModel": "evil.Model", "AutoTokenizer": ["evil.Tokenizer", "evil.Tokenizer"]}
MAPPING = {"base_model_class": "Model", "parent_library": "evil"}


@pytest.mark.parametrize(
    ("kind", "name", "values"),
    [
        ("adapter", ADAPTER, {"auto_mapping": MAPPING}),
        ("adapter", "tokenizer_config.json", {"auto_map": AUTO}),
        ("adapter", "tokenizer_config.json", {"auto_map": AUTO, "tokenizer_class": "Tokenizer"}),
        ("adapter", "config.json", {"model_type": "evil", "auto_map": AUTO}),
        ("merged", "config.json", {"auto_map": AUTO}),
        ("merged", "config.json", {"model_type": "evil", "auto_map": AUTO}),
    ],
)
def test_code_in_a_folder_is_never_run(copy, monkeypatch, kind, name, values):
    folder = copy(kind)
    (folder / "evil.py").write_text(CODE)
    change(folder, name, values)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.chdir(folder)
    try:
        Recommender.from_pretrained(folder)
    except ValueError as refusal:
        assert "runs no code of a repository" in str(refusal) or "another tokenizer_config.json" in str(refusal)
    assert not (folder / "ran").exists() and "evil" not in sys.modules


def test_the_code_would_be_seen(tmp_path, monkeypatch):
    (tmp_path / "evil.py").write_text(CODE)
    monkeypatch.syspath_prepend(tmp_path)
    try:
        __import__("evil")
    finally:
        sys.modules.pop("evil", None)
    assert (tmp_path / "ran").exists()


@pytest.mark.parametrize("key", ["attn_implementation", "_attn_implementation"])
def test_no_kernel_of_the_hub_is_taken_for_attention(copy, key):
    """transformers would download and run what stands there."""
    folder = copy("merged")
    change(folder, "config.json", {key: "somebody/kernel"})
    loaded = Recommender.from_pretrained(folder)
    assert rec_model(loaded).backbone.config._attn_implementation == "sdpa"


def test_a_base_with_an_adapter_beside_it_is_refused(tmp_path):
    """transformers would load it into the base, unchecked."""
    base = save_checkpoint("bert", tmp_path / "base")
    change(base, ADAPTER, {"peft_type": "LORA", "base_model_name_or_path": "a/b", "target_modules": "(a+)+$"})
    with pytest.raises(ValueError, match=r"an adapter beside it(.|\n)*Give a checkpoint of a whole model"):
        tiny_recommender(base)


@pytest.mark.parametrize("token", ["hf_secret\n", "hf secret", "hf_s\u00e9cret", "hf_secret\x00", "", 7])
def test_a_token_that_is_none_is_not_sent_and_not_told(hub, token):
    """The client puts an illegal header's value, the token, into its error."""
    for ask in (
        lambda: Recommender.from_pretrained("nobody/nothing", token=token),
        lambda: tiny_recommender_of_nobody(token),
    ):
        with pytest.raises(
            ValueError, match=r"token= holds a blank, a line break or a letter that no token has"
        ) as caught:
            ask()
        told = f"{caught.value!r} {caught.value.__context__!r} {caught.value.__cause__!r}"
        assert "secret" not in told and "cret" not in told
    assert hub.requests == []


def tiny_recommender_of_nobody(token):
    from llmrec.checkpoints import resolve_checkpoint

    return resolve_checkpoint("nobody/nothing", token=token)


def test_items_that_lack_what_the_template_needs_are_refused(saved):
    frame = items_frame().select("item_id", "brand")
    with pytest.raises(ValueError, match=r"needs \['title'\], which the items do not have"):
        Recommender.from_pretrained(saved["adapter"], items=frame)
