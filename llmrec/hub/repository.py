"""Repositories on the Hub: what is downloaded of them, and how a folder gets there."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from pathlib import Path

from llmrec.checkpoints import check_token
from llmrec.hub.folder import FILES
from llmrec.hub.names import ADAPTER_WEIGHTS
from llmrec.hub.weights import REFUSED_PICKLE
from llmrec.untrusted import check_bytes


@contextlib.contextmanager
def explained(what: str, name: str, revision: str | None) -> Iterator[None]:
    """Turn what the Hub client raises into an error that names the repository and the remedy; never the token.

    Raises:
        PermissionError: if the Hub refuses.
        FileNotFoundError: if there is no such repository or revision, or no network and nothing in the cache.
        ConnectionError: if the Hub cannot be reached for what no cache has.
    """
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        LocalTokenNotFoundError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        yield
    except GatedRepoError:
        raise PermissionError(
            f"{what} {name!r} is gated: its owner admits readers one by one.\nAsk for access on its page on the Hub, "
            "then log in with `hf auth login` or give token=."
        ) from None
    except LocalTokenNotFoundError:
        raise PermissionError(f"{what} {name!r}: log in with `hf auth login`, or give token=.") from None
    except RevisionNotFoundError:
        raise FileNotFoundError(
            f"{what} {name!r} has no revision {revision!r}: give a branch, a tag or a commit of it."
        ) from None
    except RepositoryNotFoundError:
        raise FileNotFoundError(
            f"no {what} {name!r}: no such folder, and the Hub said: there is no such repository, or it is private and "
            "you are not logged in (`hf auth login`, or token=)."
        ) from None
    except (LocalEntryNotFoundError, HfHubHTTPError, HFValidationError) as error:
        status = getattr(getattr(error, "response", None), "status_code", None)
        reason = str(error).splitlines()[0]
        if status in (401, 403):
            raise PermissionError(f"{what} {name!r}: the Hub refuses you ({reason}).\nIs the token right?") from None
        raise FileNotFoundError(f"no {what} {name!r}: no such folder, and the Hub said: {reason}") from None
    except OfflineModeIsEnabled:
        raise ConnectionError(f"{what} {name!r}: the Hub is not asked while HF_HUB_OFFLINE is set; unset it.") from None
    except Exception as error:
        if not type(error).__module__.startswith("httpx"):  # the client's client, whose name changes with its version
            raise
        reason = type(error).__name__  # its text may hold what was sent
        raise ConnectionError(
            f"{what} {name!r}: the Hub cannot be reached ({reason}). Try again when the network is there."
        ) from None


def fetch_folder(name: str, revision: str | None = None, token: str | None = None) -> Path:
    """Return the folder of an adapter on the Hub, downloaded or from the cache: its known files and no others.

    What was downloaded before is this user's own and is used even where the Hub does not answer any more, or refuses
    the token, as the Hub's client does. Unless the client is set offline, a warning then gives the reason and the
    commit, for the copy may be an old one.

    Args:
        name: `owner/name`.
        revision: Branch, tag or commit; main by default.
        token: Hub token; None uses the one you are logged in with.

    Raises:
        PermissionError: if the repository is gated, or the Hub refuses the token.
        FileNotFoundError: if there is none of that name or revision.
        ValueError: if its weights are pickles, a file is larger than llmrec reads, or the token is none.
    """
    from huggingface_hub import HfApi, is_offline_mode, snapshot_download

    check_token(token)
    refusal = None
    try:
        with explained("adapter", name, revision):
            about = HfApi(token=token).model_info(name, revision=revision, files_metadata=True)
        for each in about.siblings or []:
            if each.rfilename in FILES:
                check_bytes(each.rfilename, each.size or 0)
    except (PermissionError, FileNotFoundError, ConnectionError) as error:
        refusal = error
    with explained("adapter", name, revision):
        folder = Path(snapshot_download(name, revision=revision, token=token, allow_patterns=list(FILES)))
    if refusal is not None and not is_offline_mode():
        warnings.warn(f"{refusal}\nThe copy in the cache, of commit {folder.name}, is used.", stacklevel=3)
    if (folder / ADAPTER_WEIGHTS).is_file():
        return folder
    with contextlib.suppress(PermissionError, FileNotFoundError), explained("adapter", name, revision):
        listed = HfApi(token=token).list_repo_files(name, revision=revision)
        if pickles := sorted(each for each in listed if each.endswith((".bin", ".pkl", ".pt", ".pth"))):
            raise ValueError(f"adapter {name!r} has {pickles[0]}, a pickle, for weights: {REFUSED_PICKLE}")
    return folder


def check_repo_id(name: str) -> None:
    """Raise ValueError unless something can be pushed under this name: `owner/name`, of letters that the Hub takes."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

    try:
        validate_repo_id(name)
    except HFValidationError as error:
        raise ValueError(f"repository {name!r}: {error}") from None
    if "/" not in name:
        raise ValueError(f"repository {name!r} has no owner: give owner/name, such as yourself/{name}.")


def push_folder(
    folder: Path,
    name: str,
    private: bool | None = None,
    revision: str | None = None,
    token: str | None = None,
    tag: str | None = None,
    kind: str = "model",
    delete: tuple[str, ...] = FILES,
) -> str:
    """Upload a folder in one commit and return the commit's id; files that the Hub calls large go as LFS.

    Args:
        folder: All of its files are uploaded.
        name: `owner/name`; made if it is not there.
        private: Whether a new repository is private.
        revision: Branch, made from main if it is not there.
        token: Hub token.
        tag: Name for the commit.
        kind: `model` or `dataset`.
        delete: Names of files that leave the repository if the folder has none.

    Raises:
        PermissionError: if the Hub refuses.
        ValueError: if the repository is public and was to be private, its name is none, or the token is none.
    """
    from huggingface_hub import HfApi

    check_repo_id(name)
    check_token(token)
    api = HfApi(token=token)
    with explained("model" if kind == "model" else "data set", name, revision):
        api.create_repo(name, private=private, repo_type=kind, exist_ok=True)
        if private and not api.repo_info(name, repo_type=kind).private:
            raise ValueError(f"{name!r} exists and is public; make it private on the Hub first, or choose a new name.")
        if revision is not None:
            api.create_branch(name, branch=revision, repo_type=kind, exist_ok=True)
        commit = api.upload_folder(
            repo_id=name,
            folder_path=folder,
            repo_type=kind,
            revision=revision,
            delete_patterns=list(delete),
            commit_message="Upload with llmrec",
        )
        if tag is not None:
            api.create_tag(name, tag=tag, revision=commit.oid, repo_type=kind)
    return commit.oid
