"""From training to another process: pushed, tagged, loaded where nothing but the Hub is known, and equal scores."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

import polars as pl
import pytest
from huggingface_hub import HfApi
from small_data import DAY, START, items_frame, random_histories
from tiny_checkpoints import byte_pairs, random_model, word_pieces
from tiny_recommenders import head_settings, randomise, tiny_recommender

from llmrec.commands.main import run
from llmrec.hub.data_sets import open_data
from llmrec.recommender import Recommender

ROOT = str(Path(__file__).parents[2])
HISTORY = [{"item_id": "i00", "timestamp": START}, {"item_id": "i05", "timestamp": START + 3 * DAY}]
CANDIDATES = ["i03", "i07", {"title": "red hextool ladder"}]
NOW = START + 100 * DAY
KINDS = [
    (family, head, hybrid, added)
    for family, head in (
        *(("bert", "dual"), ("bert", "cross")),
        *(("llama", "dual"), ("llama", "cross"), ("llama", "verbalizer")),
    )
    for hybrid in (True, False)
    for added in (True, False)
]
NAMES = {kind: "-".join(["tester/journey", *map(str, kind)]).lower() for kind in KINDS}
TIMED, MERGED = "tester/journey-timed", "tester/journey-merged"
LOADER = f"""
import json, sys
from llmrec import Recommender
found = {{}}
for name in sys.argv[1:]:
    loaded = Recommender.from_pretrained(name, revision="v1")
    now = {{"now": {NOW}}} if "timed" in name else {{}}
    found[name] = loaded.score({HISTORY!r}, {CANDIDATES!r}, **now)
print(json.dumps(found))
"""


def base_on_the_hub(family: str, added: bool, folder: Path) -> str:
    """Push a random checkpoint, tied for a verbalizer to ask it; with tokens that its tokenizer was given later."""
    name = f"tester/journey-base-{family}-{added}".lower()
    tokenizer = word_pieces() if family == "bert" else byte_pairs(family)
    model = random_model(family, len(tokenizer))
    model.config.tie_word_embeddings = True
    if added:
        assert tokenizer.add_tokens(["hextool"]) + tokenizer.add_special_tokens({"sep_token": "<turn>"}) == 2
        model.resize_token_embeddings(len(tokenizer))
        assert len(tokenizer.tokenize("hextool")) == 1
    tokenizer.save_pretrained(folder)
    model.save_pretrained(folder)
    HfApi().create_repo(name, exist_ok=True)
    HfApi().upload_folder(repo_id=name, folder_path=folder)
    return name


def in_another_process(*names: str) -> dict[str, list[float]]:
    """Scores of repositories at tag v1, in a process whose cache and folder are empty."""
    command = [sys.executable, "-c", LOADER, *names]
    with tempfile.TemporaryDirectory() as home:
        environment = {**os.environ, "PYTHONPATH": ROOT, "HF_HOME": home, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, cwd=home, env=environment, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def journey(tmp_path_factory) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Scores before pushing, and those that another process finds at the tag, by repository."""
    folder, before = tmp_path_factory.mktemp("journey"), {}
    bases = {
        (family, added): base_on_the_hub(family, added, folder / f"{family}-{added}")
        for family in ("bert", "llama")
        for added in (True, False)
    }
    for kind, name in NAMES.items():
        family, head, hybrid, added = kind
        settings = {"hybrid": hybrid, **head_settings(head, folder)}
        recommender = randomise(tiny_recommender(bases[family, added], **settings))
        before[name] = recommender.score(HISTORY, CANDIDATES)
        recommender.push_to_hub(name, tag="v1")
        randomise(recommender, seed=9).push_to_hub(name)  # main moves on
        if kind == KINDS[0]:
            merged = randomise(tiny_recommender(bases[family, added])).merge()
            before[MERGED] = merged.score(HISTORY, CANDIDATES)
            merged.push_to_hub(MERGED, tag="v1")
    timed = randomise(tiny_recommender(bases["bert", False], template="time", time_embedding=["all"]))
    before[TIMED] = timed.score(HISTORY, CANDIDATES, now=NOW)
    assert before[TIMED] != pytest.approx(timed.score(HISTORY, CANDIDATES), abs=1e-3)  # now is read
    timed.push_to_hub(TIMED, tag="v1")
    return before, in_another_process(*before)


@pytest.mark.parametrize("name", [*NAMES.values(), TIMED, MERGED])
def test_another_process_finds_the_same_scores_at_the_tag(journey, name):
    before, after = journey
    assert after[name] == pytest.approx(before[name], abs=1e-6)


def test_kinds_are_told_apart(journey):
    kinds = [*NAMES.values(), TIMED]  # what was merged is one of them again
    assert len({tuple(journey[0][name]) for name in kinds}) == len(kinds)


USERS = [f"person-{number:04}-of-lisbon" for number in range(12)]
SMALL = shlex.split(
    "--max_tokens 64 --max_vector_events 4 --lora_r 2 --lora_alpha 4 --per_device_train_batch_size 4 --bf16 false "
    "--disable_tqdm true --seed 3 --max_steps 2 --eval_strategy no --load_best_model_at_end false "
    "--logging_steps 1"
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> dict[str, Path]:
    """Folders of `pretrain`, and of `train` that goes on from it, with time, each named by its absolute path."""
    folder = tmp_path_factory.mktemp("trained")
    rows = [
        (USERS[user], f"i{item:02}", START + DAY * (3 * place + user))
        for user, items in enumerate(random_histories(len(USERS), 24, 10))
        for place, item in enumerate(items)
    ]
    pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row").write_csv(folder / "events.csv")
    items_frame().write_csv(folder / "items.csv")
    tables = ["--interactions", str(folder / "events.csv"), "--items", str(folder / "items.csv")]
    assert run("prepare", [*tables, "--split", "leave_one_out", "--output_dir", str(folder / "data")]) == 0
    base = base_on_the_hub("llama", False, folder / "base")
    common = ["--data_dir", str(folder / "data"), "--base_model", base, *SMALL]
    assert run("pretrain", [*common, "--output_dir", str(folder / "adapted")]) == 0
    more = ["--init_adapter", str(folder / "adapted"), "--template", "time", "--time_embedding", "all"]
    assert run("train", [*common, *more, "--hybrid", "true", "--output_dir", str(folder / "timed")]) == 0
    return {name: folder / name for name in ("data", "adapted", "timed")}


@pytest.mark.parametrize("name", ["adapted", "timed"])
def test_what_the_commands_made_arrives_whole_and_tells_nothing(hub, trained, name):
    repository = f"tester/commands-{name}"
    folder = trained[name]
    options = ["--model", str(folder), "--repo_id", repository, "--tag", "v1"]
    if name == "timed":
        results = folder.parent / "results"
        measured = ["--data_dir", str(trained["data"]), "--model", str(folder), "--shuffles", "false"]
        assert run("evaluate", [*measured, "--output_dir", str(results)]) == 0
        about = ["--data_dir", str(trained["data"]), "--results", str(results), "--license", "mit"]
        assert run("card", ["--model", str(folder), *about]) == 0
        options += ["--results", str(results)]
    assert run("push", options) == 0
    here = Recommender.from_pretrained(folder)
    now = {"now": NOW} if name == "timed" else {}
    assert in_another_process(repository)[repository] == pytest.approx(here.score(HISTORY, CANDIDATES, **now), abs=1e-6)
    files = hub.repositories["model", repository].files
    assert {"data_manifest.json", "README.md", "probe.json"} <= set(files)
    told = json.loads(files["llmrec_config.json"])["adapted_on"]  # of what was started from, in both
    manifest = (trained["data"] / "manifest.json").read_bytes()
    assert told["data"][0]["manifest_sha256"] == hashlib.sha256(manifest).hexdigest() and told["steps"] == 2
    saved = {path.name: path.read_bytes() for path in folder.iterdir() if path.name in files}
    places = [os.fsencode(place) for place in (folder.parent, Path.home(), Path.cwd(), sys.prefix)]
    for path, content in [*files.items(), *saved.items()]:
        told = [text for text in (*map(str.encode, USERS), hub.token.encode(), *places) if text in content]
        assert not told, (path, told)
    if name == "timed":
        card = files["README.md"].decode()
        assert f'from_pretrained("{repository}")' in card and "license: mit" in card
        assert "eval_results.json" in files and "Not evaluated" not in card
        assert json.loads(files["eval_results.json"])["data"]["source"] and "**Manifest:**" in card  # as `card` left it


def test_films_that_were_only_read_beforehand_stay_home_too(hub, trained):
    adapted = Recommender.from_pretrained(trained["adapted"])
    assert adapted.records["data_manifest.json"]["counts"]
    adapted.records["data_manifest.json"]["source"] = "movielens-small"
    with pytest.raises(ValueError, match="the items may not be pushed"):
        adapted.push_to_hub("tester/read-films")


def test_what_the_page_says_of_sharing_holds(hub, trained, capsys):
    """Its commands and its call, with these names for those."""
    text = (Path(ROOT) / "docs" / "sharing.md").read_text()
    results = trained["timed"].parent / "shared-results"
    measured = ["--data_dir", str(trained["data"]), "--model", str(trained["timed"]), "--shuffles", "false"]
    assert run("evaluate", [*measured, "--output_dir", str(results)]) == 0
    names = {"run": str(trained["timed"]), "results": str(results), "you/films": "tester/films-of-the-readme"}
    names |= {"you/events": "tester/events-of-the-readme", "data": str(trained["data"])}
    block, _, rest = text.partition("```bash\n")[2].partition("```")
    lines = [*block.splitlines(), *re.findall(r"`llmrec ([^`]*)`", " ".join(rest.split()))]
    for line in lines:
        verb, *options = shlex.split(line.removeprefix("llmrec "), comments=True)
        assert run(verb, [names.get(option, option) for option in options]) == 0, capsys.readouterr().err
    assert len(lines) == 4
    assert 'from_pretrained("you/films", revision="v1")' in rest
    pushed = names["you/films"]
    here = Recommender.from_pretrained(trained["timed"]).score(HISTORY, CANDIDATES)
    assert in_another_process(pushed)[pushed] == pytest.approx(here, abs=1e-6)
    assert len(open_data(f"hub:{names['you/events']}").catalog) == 24
