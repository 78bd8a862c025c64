"""Every test talks to a Hub on the loopback and has a Hugging Face cache of its own.

This stands before anything reads the environment.
"""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from collections.abc import Iterator

from local_hub import LocalHub

HUB = LocalHub()
_hub_home = tempfile.mkdtemp(prefix="llmrec-hub-")
atexit.register(shutil.rmtree, _hub_home, ignore_errors=True)
os.environ.update(HUB.environment(_hub_home))
os.environ["TOKENIZERS_PARALLELISM"] = "false"

from pathlib import Path  # noqa: E402

import hypothesis  # noqa: E402
import pytest  # noqa: E402
import torch  # noqa: E402
from tiny_checkpoints import save_checkpoint  # noqa: E402

hypothesis.settings.register_profile("llmrec", deadline=None)  # a busy machine is no defect
hypothesis.settings.load_profile("llmrec")
torch.set_num_threads(1)  # tiny models are slower on more, above all on a busy machine


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders of tiny random checkpoints by family: bert, llama, roberta, gpt2."""
    root = tmp_path_factory.mktemp("checkpoints")
    return {family: save_checkpoint(family, root / family) for family in ("bert", "llama", "roberta", "gpt2")}


@pytest.fixture
def hub() -> Iterator[LocalHub]:
    """The Hub that the client knows; every request of the test must be one that it can answer."""
    HUB.requests.clear()
    yield HUB
    assert HUB.unknown == []
