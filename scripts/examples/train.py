"""Train, evaluate and recommend from Python: python scripts/examples/train.py [DATA_DIR|shop [CHECKPOINT]]."""

from __future__ import annotations

import tempfile

from made_up import checkpoint_of_the_command_line, data_of_the_command_line
from peft import LoraConfig

from llmrec import Recommender, RecTrainer, RecTrainingArguments, baselines, evaluate

data = data_of_the_command_line()
model = Recommender.from_backbone(checkpoint_of_the_command_line(), data.items, LoraConfig(r=8, lora_alpha=16))
with tempfile.TemporaryDirectory() as folder:
    args = RecTrainingArguments(folder, num_train_epochs=2, disable_tqdm=True)
    RecTrainer(model, args, data.train, data.validation).train()
rivals = baselines.fit(data, ["popularity", "item_knn", "content"], vectors=model.text_vectors)
print(evaluate({"llmrec": model, **rivals}, data.test, data=data))
for one in model.recommend([{"item_id": data.items.ids[0]}, {"item_id": data.items.ids[2]}], k=3):
    print(one.rank, round(one.score, 2), one.item_id, one.text)
