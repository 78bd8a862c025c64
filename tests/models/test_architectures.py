"""What each architecture is found to do, and that it then reads histories as its own plain pass would."""

from __future__ import annotations

import functools
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_architectures import ALL, FULL, WINDOW, Architecture
from torch import Tensor

from llmrec.configuration import TIME_PARTS
from llmrec.models.attention import attention_mask
from llmrec.models.candidate_heads import CrossHead
from llmrec.models.capabilities import capabilities, check_backbone, run_backbone
from llmrec.models.items import ItemTable
from llmrec.models.modeling import RecModel
from llmrec.models.passes import position_offset
from llmrec.models.reading import Reading
from llmrec.text.batch import Branch, Pass, Query, collate

PAGE = Path(__file__).parents[2] / "docs" / "checkpoints.md"
READ = [name for name, each in ALL.items() if each.reads]
NUM_ITEMS, LENGTH = 10, 7
ROUNDING = 1e-5
"""Of the spread of what is compared."""


def difference(one: Tensor, other: Tensor) -> float:
    """Largest difference, as a share of the spread."""
    assert one.shape == other.shape
    return ((one - other).abs().max() / other.std()).item()


built = functools.cache(lambda name: ALL[name].build())
"""Backbones by name of their architecture; no test changes one."""


@pytest.mark.parametrize("name", ALL)
def test_a_checkpoint_is_found_to_do_what_it_does(name):
    architecture = ALL[name]
    backbone = built(name)
    before = backbone.config.to_dict()
    if not architecture.reads:
        with pytest.raises(ValueError, match=f"'tiny' .*{architecture.expected}"):
            check_backbone(backbone, "tiny")
    else:
        can = check_backbone(backbone, "tiny")
        found = can.level, can.causal, can.reach or 0
        assert found == (architecture.expected, architecture.causal, architecture.window)
    assert backbone.config.to_dict() == before


@pytest.mark.parametrize("length", [WINDOW // 2, 4 * WINDOW])
@pytest.mark.parametrize("name", READ)
@torch.no_grad()
def test_a_plain_row_has_the_states_of_the_plain_pass(name, length):
    backbone = built(name)
    ids = torch.randint(5, 99, (1, length), generator=torch.Generator().manual_seed(1))
    mask = attention_mask(torch.zeros_like(ids), capabilities(backbone).causal)
    positions = torch.arange(length)[None] + position_offset(backbone)
    ours = run_backbone(backbone, backbone.get_input_embeddings()(ids), positions, mask)
    assert difference(ours, backbone(input_ids=ids).last_hidden_state) <= ROUNDING


@pytest.fixture(scope="module", params=READ)
def model(request) -> RecModel:
    """A model with a cross head and an embedding of time, all of it random."""
    random = torch.Generator().manual_seed(2)
    table = ItemTable(torch.nn.functional.normalize(torch.randn(NUM_ITEMS, 32, generator=random), dim=-1), False)
    made = RecModel.from_backbone(built(request.param), "mean", table, CrossHead(32), TIME_PARTS)
    for part in (made.rec_head, made.rec_time, made.candidate_head):
        for weight in part.parameters():
            weight.data += 0.3 * torch.randn(weight.shape, generator=random)
    return made.eval()


def whole_pass() -> Pass:
    """Seven events, longer than a window, each with a query; candidates behind the last and behind the third."""
    random = np.random.default_rng(3)

    def block() -> list[int]:
        return random.integers(5, 99, random.integers(2, 6)).tolist()

    times = np.stack([random.integers(60, 10**6, LENGTH), 10**9 + np.arange(LENGTH) * 10**6], axis=1)
    branches = [Branch(item, block(), event) for item, event in enumerate([LENGTH - 1] * 4 + [2] * 2)]
    queries = [Query(event, block(), (3600 * (event + 1), 10**9), True) for event in range(LENGTH)]
    blocks = [block() for _ in range(LENGTH)]
    return Pass(random.integers(NUM_ITEMS, size=LENGTH), blocks, branches=branches, queries=queries, times=times)


def cut(row: Pass, end: int, branches: list[Branch]) -> Pass:
    """The pass as it was after some events, with one query and other candidates."""
    assert row.times is not None
    return Pass(
        row.items[:end], row.blocks[:end], branches=branches, queries=[row.queries[end - 1]], times=row.times[:end]
    )


@torch.no_grad()
def test_one_pass_equals_separate_packed_padded_cached_and_appended_ones(model):
    header, row = [7, 8], whole_pass()
    together = model(**collate([row], header, 1))
    states, scores = together.states[0], together.candidate_scores[0]

    alone = [model(**collate([cut(row, end, [])], header, 1)).states[0, -1] for end in range(1, LENGTH + 1)]
    assert difference(states, torch.stack(alone)) <= ROUNDING
    apart = [model(**collate([cut(row, one.event + 1, [one])], header, 1)).candidate_scores[0] for one in row.branches]
    assert difference(scores, torch.cat(apart)) <= ROUNDING

    for side in ("right", "left"):
        padded = model(**collate([cut(row, 2, []), row], header, 1, side))
        assert difference(padded.states[1], states) <= ROUNDING
        assert difference(padded.candidate_scores[1], scores) <= ROUNDING

    last = [one for one in row.branches if one.event == LENGTH - 1]
    items = model.rec_items(torch.tensor([one.item for one in last]))
    for steps in ([LENGTH], [1] * LENGTH, [3, LENGTH - 3]):
        reading, begin = Reading(model, header), 0
        for step in steps:
            events = slice(begin, begin + step)
            reading.append(row.blocks[events], model.rec_items(torch.as_tensor(row.items[events])), row.times[events])
            begin += step
            assert difference(reading.user_state(row.queries[begin - 1]), states[begin - 1]) <= ROUNDING
        found = reading.candidate_scores([one.block for one in last], items, row.queries[-1])
        assert difference(found, scores[: len(last)]) <= ROUNDING
        assert (reading._cache is not None) == (capabilities(model.backbone).level == FULL)


def row_of(architecture: Architecture) -> str:
    """Return the architecture's row of the documented table, by asking it."""
    cells = [architecture.name, f"`{architecture.model_type}`"]
    try:
        can = check_backbone(built(architecture.name), "tiny")
    except ValueError as error:
        reason = str(error).splitlines()[0].removeprefix(f"'tiny' ({architecture.model_type}) ")
        reason = re.split(r"(?:, and|:) the pass (?:differs|fails)|: past it|; llmrec", reason)[0].rstrip(".")
        return f"| {' | '.join([*cells, '-', '-', '-', '-', '-', f'refused: {reason}'])} |"
    window = "no" if can.reach is None else "some layers" if len(can.kinds) > 1 else "all layers"
    cells += ["yes", yes_no(can.branches), yes_no(can.branches and can.causal), yes_no(can.cache), window, can.level]
    return f"| {' | '.join(cells)} |"


def yes_no(holds: bool) -> str:
    return "yes" if holds else "no"


def table() -> str:
    """Return the documented table."""
    head = "| architecture | `model_type` | dual | cross | verbalizer | cache | window | found |\n" + "|---" * 8 + "|"
    return "\n".join([head, *(row_of(each) for each in ALL.values())])


def test_the_documented_table_is_what_the_checkpoints_do():
    """`PYTHONPATH=tests python tests/models/test_architectures.py --write` writes it again."""
    assert table() in PAGE.read_text(encoding="utf-8")


if __name__ == "__main__" and sys.argv[1:] == ["--write"]:
    text = PAGE.read_text(encoding="utf-8")
    start = text.index("| architecture |")
    end = text.index("\n\n", start)
    PAGE.write_text(text[:start] + table() + text[end:], encoding="utf-8")
