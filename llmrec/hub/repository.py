"""Repositories on the Hub: what is downloaded of them, and how a folder gets there."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from llmrec.hub.checks import REFUSED_PICKLE
from llmrec.hub.folder import ADAPTER_WEIGHTS, FILES


@contextlib.contextmanager
def explained(what: str, name: str, revision: str | None) -> Iterator[None]:
    """Turn what the Hub client raises into an error that names the repository and the remedy; never the token.

    Raises:
        PermissionError: if the Hub refuses.
        FileNotFoundError: if there is no such repository or revision, or no network and nothing in the cache.
    """
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        LocalTokenNotFoundError,
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


def fetch_folder(name: str, revision: str | None = None, token: str | None = None) -> Path:
    """Return the folder of an adapter on the Hub, downloaded or from the cache: its known files and no others.

    Args:
        name: `owner/name`.
        revision: Branch, tag or commit; main by default.
        token: Hub token; None uses the one you are logged in with.

    Raises:
        PermissionError: if the repository is gated, or the Hub refuses the token.
        FileNotFoundError: if there is none of that name or revision.
        ValueError: if its weights are pickles.
    """
    from huggingface_hub import HfApi, snapshot_download

    with explained("adapter", name, revision):
        folder = Path(snapshot_download(name, revision=revision, token=token, allow_patterns=list(FILES)))
    if (folder / ADAPTER_WEIGHTS).is_file():
        return folder
    with contextlib.suppress(PermissionError, FileNotFoundError), explained("adapter", name, revision):
        listed = HfApi(token=token).list_repo_files(name, revision=revision)
        if pickles := sorted(each for each in listed if each.endswith((".bin", ".pkl", ".pt", ".pth"))):
            raise ValueError(f"adapter {name!r} has {pickles[0]}, a pickle, for weights: {REFUSED_PICKLE}")
    return folder


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
        ValueError: if the repository is public and was to be private.
    """
    from huggingface_hub import HfApi

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
