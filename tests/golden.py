"""What the whole chain computes on fixed seeds: counts, losses, scores and ranks, by the command line alone.

`LLMREC_GOLDEN=1 pytest tests/test_golden.py` compares a run with `golden.json`; `python tests/golden.py` writes the
record anew. A number there moves on purpose or not at all.
"""

from __future__ import annotations

import json
import shlex
import tempfile
from pathlib import Path
from typing import Any

import polars as pl
from small_data import data_directory
from tiny_checkpoints import save_checkpoint
from two_processes import ROOT

from llmrec.text.template import TEMPLATE_NAME

RECORD = Path(__file__).with_name("golden.json")
SMALL = shlex.split(
    "--max_tokens 64 --max_vector_events 4 --lora_r 2 --lora_alpha 4 --per_device_train_batch_size 4 --bf16 false "
    "--disable_tqdm true --seed 3 --logging_steps 1 --max_steps 10 --save_strategy no --eval_strategy no "
    "--load_best_model_at_end false --use_cpu true"
)
RUNS = {
    "dual": ("bert", "--template vectors"),
    "time": ("bert", "--time_embedding gap weekday --template time"),
    "decoder": ("llama", "--hybrid false"),
    "cross": ("bert", "--head cross --num_negatives 3 --template rerank"),
    "verbalizer": ("gpt2", "--head verbalizer --num_negatives 3 --template {answers}"),
}


def record(folder: Path) -> dict[str, Any]:
    """Run the chain below `folder` and return its numbers."""
    from llmrec.commands.main import run
    from llmrec.recommender import Recommender

    data = data_directory(folder / "data", num_users=16, irregular=True)
    manifest, audit = (json.loads((data / name).read_text()) for name in ("manifest.json", "audit.json"))
    numbers: dict[str, Any] = {
        "split": pl.read_parquet(data / "splits.parquet")["split"].value_counts().sort("split").rows(),
        "audit": [[row["name"], row["count"], row["of"], row["severity"]] for row in audit["findings"]],
        "counts": manifest.get("counts"),
    }
    for family in ("bert", "llama", "gpt2"):
        save_checkpoint(family, folder / family)
    words = json.loads((ROOT / "prompts" / "rerank.json").read_text()) | {"answers": [" red", " blue"]}
    (folder / TEMPLATE_NAME).write_text(json.dumps(words))
    catalog = pl.read_parquet(data / "items.parquet")["item_id"].to_list()
    for name, (family, options) in RUNS.items():
        out = folder / name
        where = ["--data_dir", str(data), "--base_model", str(folder / family), "--output_dir", str(out)]
        assert run("train", [*where, *SMALL, *shlex.split(options.format(answers=folder / TEMPLATE_NAME))]) == 0
        log = json.loads((out / "train_results.json").read_text())["log"]
        recommender = Recommender.from_pretrained(out, device="cpu")
        history = [{"item_id": item, "timestamp": 1_600_000_000 + 90_000 * n} for n, item in enumerate(catalog[3:8])]
        numbers[name] = {
            "losses": [entry["loss"] for entry in log if "loss" in entry],
            "scores": recommender.score(history, catalog[10:16]),
            "recommended": [[r.item_id, r.score] for r in recommender.recommend(history, k=5)],
        }
    fitted = folder / "baselines"
    where = ["--data_dir", str(data), "--base_model", str(folder / "bert"), "--output_dir", str(fitted)]
    assert run("baselines", [*where, "--seed", "3"]) == 0
    out = folder / "results"
    where = ["--data_dir", str(data), "--model", str(folder / "dual"), "--baselines", str(fitted)]
    assert run("evaluate", [*where, "--ablate", "reading,order", "--output_dir", str(out)]) == 0
    ranks = pl.read_parquet(out / "per_case.parquet")
    numbers["ranks"] = {name: ranks[name].to_list() for name in ranks.columns if ranks[name].dtype.is_numeric()}
    systems = json.loads((out / "results.json").read_text())["systems"]
    numbers["metrics"] = systems
    return numbers


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as made:
        RECORD.write_text(json.dumps(record(Path(made)), indent=1) + "\n")
