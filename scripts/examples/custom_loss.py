"""A loss of one's own: python scripts/examples/custom_loss.py [DATA_DIR|shop [CHECKPOINT]].

It takes the place of the softmax over the catalogue: label smoothing, which the default does not have.
"""

from __future__ import annotations

import tempfile

import torch.nn.functional as F
from made_up import checkpoint_of_the_command_line, data_of_the_command_line
from torch import Tensor

from llmrec import Recommender, RecTrainer, RecTrainingArguments, evaluate, losses


def smoothed(states: Tensor, items: Tensor, bias: Tensor | None, labels: Tensor, seen=None, weights=None) -> Tensor:
    """Return the cross-entropy with a tenth of the mass on all items, summed over P positions."""
    return F.cross_entropy(F.linear(states, items, bias), labels, label_smoothing=0.1, reduction="sum")


data = data_of_the_command_line()
trained = {}
for name, loss in {"softmax": None, "smoothed": smoothed, "gbce": losses.GBCE(num_negatives=16)}.items():
    model = Recommender.from_backbone(checkpoint_of_the_command_line(), data.items)
    with tempfile.TemporaryDirectory() as folder:
        args = RecTrainingArguments(folder, max_steps=20, disable_tqdm=True)
        RecTrainer(model, args, data.train, data.validation, loss=loss).train()
    trained[name] = model
print(evaluate(trained, data.test, data=data))
