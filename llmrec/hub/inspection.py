"""What loading an adapter from the Hub would download and do, told before it is done."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from llmrec.checkpoints import check_token
from llmrec.configuration import CONFIG_NAME, RecommenderConfig, read_json
from llmrec.hub.checks import NEEDED, check_adapter_config, check_base_name
from llmrec.hub.folder import FILES
from llmrec.hub.names import ADAPTER_CONFIG, ITEMS
from llmrec.hub.repository import explained
from llmrec.text.template import TEMPLATE_NAME, PromptTemplate
from llmrec.untrusted import check_bytes, refusals, regular_files

MAX_SETTINGS = 1 << 20
"""Bytes; larger settings are not downloaded to be looked at."""
READ = (ADAPTER_CONFIG, CONFIG_NAME, TEMPLATE_NAME)


@dataclass
class Inspection:
    """What was found.

    Attributes:
        commit: Commit on the Hub; None for a folder.
        files: Bytes of the files that loading reads, by name.
        ignored: Names of files that are never read.
        facts: What loading would do, in words, by what it concerns.
        problems: Why it would be refused; none found is no promise, for no weights were read.
    """

    commit: str | None
    files: dict[str, int]
    ignored: list[str]
    facts: dict[str, str]
    problems: list[str]

    def attempt(self, work: Callable[[], Any], folder: Path) -> Any:
        """Return what some work on a folder returns, None where it is refused, which is written down."""
        try:
            with refusals("adapter", folder):
                return work()
        except (ValueError, TypeError, FileNotFoundError) as error:
            self.problems.append(str(error))
            return None


def inspect(name: str, revision: str | None = None, token: str | None = None) -> Inspection:
    """Look at an adapter: its file list and its settings, no weights.

    Args:
        name: Folder or Hub name.
        revision: Branch, tag or commit on the Hub.
        token: Hub token.

    Raises:
        FileNotFoundError: if there is no such folder or repository.
        PermissionError: if the Hub refuses.
    """
    check_token(token)
    folder, published = Path(name), not Path(name).is_dir()
    commit = None
    if published:
        folder, commit, sizes = _settings_from_hub(name, revision, token)
    else:
        sizes = {str(path.relative_to(folder)): path.stat().st_size for path in folder.rglob("*") if path.is_file()}
    files = {each: sizes[each] for each in FILES if each in sizes}
    found = Inspection(commit, files, sorted(set(sizes) - set(files)), {}, [])
    if published:
        for each, size in files.items():
            found.attempt(partial(check_bytes, each, size), folder)
    else:
        found.attempt(partial(regular_files, folder), folder)
    if not found.problems:  # else a file would be opened that may not be
        _look(found, folder, published)
    if missing := [each for each in (*NEEDED, CONFIG_NAME) if each not in sizes]:
        found.problems.append(f"lacks {', '.join(missing)}")
    return found


def _settings_from_hub(name: str, revision: str | None, token: str | None) -> tuple[Path, str, dict[str, int]]:
    """Download the settings alone; return their folder, the commit, and the size of every file of the repository."""
    from huggingface_hub import HfApi, snapshot_download

    with explained("adapter", name, revision):
        about = HfApi(token=token).model_info(name, revision=revision, files_metadata=True)
        sizes = {each.rfilename: each.size or 0 for each in about.siblings or []}
        wanted = [each for each in READ if sizes.get(each, 0) <= MAX_SETTINGS]
        folder = snapshot_download(name, revision=about.sha, token=token, allow_patterns=wanted)
    assert about.sha is not None
    return Path(folder), about.sha, sizes


def _look(found: Inspection, folder: Path, published: bool) -> None:
    """Read the settings, as loading would, and write down what they ask for and what is wrong with them."""

    def adapter() -> None:
        values = read_json(folder / ADAPTER_CONFIG)
        layers = values.get("target_modules")
        found.facts["adapter"] = (
            f"LoRA r={values.get('r')} on {str(layers)[:500]}, heads {values.get('modules_to_save')}"
        )
        check_adapter_config(values, config)

    config = found.attempt(lambda: RecommenderConfig.load(folder), folder)
    if config is not None:
        commit = config.base_revision or "of no recorded commit"
        found.facts["base model"] = f"{config.base_model} {commit}: " + (
            "not loaded: the folder holds its weights, with the adapter merged in"
            if config.merged
            else "downloaded (safetensors, JSON) unless it is here"
        )
        found.facts["head"] = f"{config.head}, {'hybrid' if config.hybrid else 'text alone'}"
        found.attempt(lambda: check_base_name(config.base_model, published), folder)
        if (folder / ADAPTER_CONFIG).is_file():
            found.attempt(adapter, folder)
    if (folder / TEMPLATE_NAME).is_file():
        template = found.attempt(lambda: PromptTemplate.load(folder), folder)
        if template is not None:
            found.facts["template"] = f"event {template.event!r}, item {template.item!r}"
    found.facts["catalogue"] = "its own" if ITEMS in found.files else "none: give items="
    found.facts["code"] = "none is run; no pickle is read"
