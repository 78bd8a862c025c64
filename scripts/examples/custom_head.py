"""A candidate head of one's own: python scripts/examples/custom_head.py [DATA_DIR|shop [CHECKPOINT]].

It ranks what the dual head proposes, by the state of each candidate after it has read the history.
"""

from __future__ import annotations

import tempfile

import torch
from made_up import checkpoint_of_the_command_line, data_of_the_command_line
from torch import Tensor, nn

from llmrec import Recommender, RecTrainer, RecTrainingArguments, evaluate
from llmrec.models.candidate_heads import CandidateHead


class MixtureHead(CandidateHead):
    """A small network on the state, gated against the dual head's score."""

    def __init__(self, hidden_size: int) -> None:
        super().__init__(hidden_size)
        self.network = nn.Sequential(nn.Linear(hidden_size, 16), nn.GELU(), nn.Linear(16, 1))
        self.gate = nn.Parameter(torch.tensor(2.0))

    def forward(self, states: Tensor, dual: Tensor) -> Tensor:
        gate = torch.sigmoid(self.gate)
        return gate * dual + (1 - gate) * self.network(states).squeeze(-1)


data = data_of_the_command_line()
model = Recommender.from_backbone(checkpoint_of_the_command_line(), data.items, head=MixtureHead)
with tempfile.TemporaryDirectory() as folder:
    args = RecTrainingArguments(folder, max_steps=20, num_negatives=5, num_proposed=20, disable_tqdm=True)
    RecTrainer(model, args, data.train, data.validation).train()
    model.save_pretrained(f"{folder}/adapter")
    model = Recommender.from_pretrained(f"{folder}/adapter", heads=[MixtureHead])
dual, cascade = model.scorer(num_candidates=0), model.scorer(num_candidates=20)
print(evaluate({"dual head": dual, "re-ranked": cascade}, data.test, data=data))
