"""A Hub on the loopback, in memory, that speaks to the real client: repositories, branches, tags, LFS, gates.

Whoever reads `huggingface_hub` reads its endpoint from the environment when it is imported, so `conftest.py` starts the
hub and sets `environment()` before anything else is imported. Only what the client asks of it is there; a route that it
lacks is kept in `unknown`, where a test can see it. `hf-xet` is switched off: uploads take the LFS protocol.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import yaml

LFS_SUFFIXES = (".safetensors", ".parquet", ".arrow", ".bin")
REGULAR_LIMIT = 10_000_000
"""Bytes; the Hub stores larger files as LFS whatever their names."""
KINDS = {"": "model", "datasets/": "dataset", "spaces/": "space"}
CREATED = "2026-01-01T00:00:00.000Z"


def blob_id(content: bytes) -> str:
    """Return what git calls a file."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def is_lfs(name: str, size: int) -> bool:
    return name.endswith(LFS_SUFFIXES) or size > REGULAR_LIMIT


@dataclass
class Repository:
    """Files by commit; branches and tags name commits."""

    name: str
    kind: str
    private: bool = False
    gated: bool = False
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.commit("main", {".gitattributes": b"*.safetensors filter=lfs diff=lfs merge=lfs -text\n"})

    def commit(self, branch: str, files: dict[str, bytes]) -> str:
        """Add a commit of all of these files to a branch, and return its id."""
        parent = self.branches.get(branch, "")
        names = [[name, blob_id(content)] for name, content in sorted(files.items())]
        commit = hashlib.sha1(json.dumps([self.name, parent, len(self.commits), names]).encode()).hexdigest()
        self.commits[commit] = dict(files)
        self.branches[branch] = commit
        return commit

    def resolve(self, revision: str) -> str | None:
        """Return the commit of a branch, tag or (the beginning of a) commit id."""
        if named := self.branches.get(revision) or self.tags.get(revision):
            return named
        found = [commit for commit in self.commits if len(revision) >= 7 and commit.startswith(revision)]
        return found[0] if len(found) == 1 else None

    @property
    def files(self) -> dict[str, bytes]:
        """The files of the main branch."""
        return self.commits[self.branches["main"]]


class Refused(Exception):
    """An answer that is an error."""

    def __init__(self, status: int, code: str, message: str) -> None:
        self.status, self.code, self.message = status, code, message


ROUTES: list[tuple[str, re.Pattern[str], Callable[..., Any]]] = []


def route(method: str, pattern: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def remember(answer: Callable[..., Any]) -> Callable[..., Any]:
        ROUTES.append((method, re.compile(pattern), answer))
        return answer

    return remember


REPO = r"/api/(?P<kind>model|dataset|space)s/(?P<name>[^/]+/[^/]+)"
FILE = r"/(?P<prefix>datasets/|spaces/)?(?P<name>[^/]+/[^/]+)"


class Conversation(BaseHTTPRequestHandler):
    """One connection of a client."""

    protocol_version = "HTTP/1.1"
    hub: LocalHub

    def log_message(self, *_: Any) -> None:
        pass

    def answer_request(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if "chunked" in (self.headers.get("Transfer-Encoding") or ""):
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        url = urlsplit(self.path)
        self.query = {name: values[0] for name, values in parse_qs(url.query).items()}
        self.body = body
        self.hub.requests.append((self.command, url.path))
        try:
            with self.hub.lock:
                for method, pattern, answer in ROUTES:
                    if self.command in method.split() and (match := pattern.fullmatch(url.path)):
                        return answer(self, **{k: unquote(v) if v else "" for k, v in match.groupdict().items()})
            self.hub.unknown.append((self.command, self.path))
            raise Refused(404, "", f"no route for {self.command} {self.path}")
        except Refused as refused:
            headers = {"X-Error-Code": refused.code, "X-Error-Message": refused.message}
            self.send(refused.status, {"error": refused.message}, headers)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = answer_request

    def send(self, status: int, body: Any = b"", headers: dict[str, str] | None = None) -> None:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        kind = "application/octet-stream" if isinstance(body, bytes) else "application/json"
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(content)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    @property
    def token(self) -> str:
        return (self.headers.get("Authorization") or "").removeprefix("Bearer ")

    def repository(self, kind: str, name: str, write: bool = False) -> Repository:
        known = self.token == self.hub.token
        if write and not known:
            raise Refused(401, "", "Invalid username or password.")
        found = self.hub.repositories.get((kind, name))
        if found is None or (found.private and not known):
            raise Refused(404 if known else 401, "RepoNotFound", "Repository not found")
        return found

    def commit_of(self, repository: Repository, revision: str) -> str:
        commit = repository.resolve(revision or "main")
        if commit is None:
            raise Refused(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return commit

    @route("GET", "/api/whoami-v2")
    def whoami(self) -> None:
        if self.token != self.hub.token:
            raise Refused(401, "", "Invalid username or password.")
        self.send(200, {"type": "user", "id": "1", "name": self.hub.user, "orgs": []})

    @route("POST", "/api/repos/create")
    def create(self) -> None:
        if self.token != self.hub.token:
            raise Refused(401, "", "Invalid username or password.")
        asked = json.loads(self.body)
        kind = asked.get("type") or "model"
        name = f"{asked.get('organization') or self.hub.user}/{asked['name']}"
        prefix = next(prefix for prefix, named in KINDS.items() if named == kind)
        found = {"url": f"{self.hub.url}/{prefix}{name}", "name": name, "id": name}
        if (kind, name) in self.hub.repositories:
            return self.send(409, {"error": "You already created this repo", **found})
        private = asked.get("visibility") == "private" or asked.get("private") is True
        self.hub.repositories[kind, name] = Repository(name, kind, private)
        self.send(200, found)

    @route("POST", "/api/validate-yaml")
    def validate(self) -> None:
        found = card_errors(json.loads(self.body)["content"])
        self.send(400 if found else 200, {"errors": found, "warnings": []})

    @route("POST", FILE + r"\.git/info/lfs/objects/batch")
    def lfs_batch(self, prefix: str, name: str) -> None:
        self.repository(KINDS[prefix], name, write=True)
        objects = []
        for wanted in json.loads(self.body)["objects"]:
            answer = {"oid": wanted["oid"], "size": wanted["size"]}
            if wanted["oid"] not in self.hub.lfs:
                answer["actions"] = {"upload": {"href": f"{self.hub.url}/lfs/{wanted['oid']}"}}
            objects.append(answer)
        self.send(200, {"transfer": "basic", "objects": objects})

    @route("PUT", "/lfs/(?P<oid>[0-9a-f]{64})")
    def lfs_upload(self, oid: str) -> None:
        if hashlib.sha256(self.body).hexdigest() != oid:
            raise Refused(400, "", "the content has another SHA-256")
        self.hub.lfs[oid] = self.body
        self.send(200)

    @route("GET HEAD", FILE + r"/resolve/(?P<revision>[^/]+)/(?P<path>.+)")
    def file(self, prefix: str, name: str, revision: str, path: str) -> None:
        repository = self.repository(KINDS[prefix], name)
        commit = self.commit_of(repository, revision)
        if repository.gated and self.token not in self.hub.admitted:
            raise Refused(403, "GatedRepo", f"Access to model {name} is restricted.")
        content = repository.commits[commit].get(path)
        if content is None:
            headers = {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": commit}
            return self.send(404, {"error": "Entry not found"}, headers)
        headers = {"X-Repo-Commit": commit, "ETag": f'"{blob_id(content)}"', "Accept-Ranges": "bytes"}
        if is_lfs(path, len(content)):
            headers["X-Linked-Etag"] = f'"{hashlib.sha256(content).hexdigest()}"'
            headers["X-Linked-Size"] = str(len(content))
        if asked := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or ""):
            begin, end = int(asked[1]), int(asked[2] or len(content) - 1)
            headers["Content-Range"] = f"bytes {begin}-{end}/{len(content)}"
            return self.send(206, content[begin : end + 1], headers)
        self.send(200, content, headers)

    @route("GET", REPO + "(?:/revision/(?P<revision>.+))?")
    def about(self, kind: str, name: str, revision: str) -> None:
        repository = self.repository(kind, name)
        commit = self.commit_of(repository, revision)
        siblings = [entry(path, content) for path, content in sorted(repository.commits[commit].items())]
        sizes = "blobs" in self.query
        about = {"id": name, "modelId": name, "author": name.split("/")[0], "sha": commit, "tags": []}
        about |= {"private": repository.private, "gated": "manual" if repository.gated else False, "disabled": False}
        about |= {"downloads": 0, "likes": 0, "lastModified": CREATED, "createdAt": CREATED, "usedStorage": 0}
        about["siblings"] = [
            {"rfilename": each["path"], **({"size": each["size"], "blobId": each["oid"]} if sizes else {})}
            for each in siblings
        ]
        self.send(200, about)

    @route("GET", REPO + "/tree/(?P<revision>[^/]+)(?:/(?P<path>.*))?")
    def tree(self, kind: str, name: str, revision: str, path: str) -> None:
        repository = self.repository(kind, name)
        files = repository.commits[self.commit_of(repository, revision)]
        start = f"{path}/" if path else ""
        below = {each: content for each, content in files.items() if each.startswith(start)}
        if path and not below:
            raise Refused(404, "EntryNotFound", f"{path} does not exist on {revision}")
        deep = self.query.get("recursive", "").lower() == "true"
        folders = {each.rsplit("/", 1)[0] for each in below if "/" in each.removeprefix(start)}
        found = [entry(each, below[each]) for each in sorted(below) if deep or "/" not in each.removeprefix(start)]
        found += [{"type": "directory", "path": each, "oid": "0" * 40, "size": 0} for each in sorted(folders)]
        self.send(200, found)

    @route("POST", REPO + "/paths-info/(?P<revision>.+)")
    def paths_info(self, kind: str, name: str, revision: str) -> None:
        repository = self.repository(kind, name)
        files = repository.commits[self.commit_of(repository, revision)]
        asked = json.loads(self.body) if self.body.startswith(b"{") else parse_qs(self.body.decode())
        self.send(200, [entry(path, files[path]) for path in asked.get("paths", []) if path in files])

    @route("GET", REPO + "/refs")
    def refs(self, kind: str, name: str) -> None:
        repository = self.repository(kind, name)
        answer: dict[str, list[dict[str, str]]] = {"converts": [], "pullRequests": []}
        for group, word, table in (("branches", "heads", repository.branches), ("tags", "tags", repository.tags)):
            answer[group] = [
                {"name": each, "ref": f"refs/{word}/{each}", "targetCommit": commit} for each, commit in table.items()
            ]
        self.send(200, answer)

    @route("POST", REPO + "/branch/(?P<branch>.+)")
    def make_branch(self, kind: str, name: str, branch: str) -> None:
        repository = self.repository(kind, name, write=True)
        start = json.loads(self.body or b"{}").get("startingPoint") or "main"
        self.make_reference(repository, repository.branches, branch, start)

    @route("POST", REPO + "/tag/(?P<revision>.+)")
    def make_tag(self, kind: str, name: str, revision: str) -> None:
        repository = self.repository(kind, name, write=True)
        self.make_reference(repository, repository.tags, json.loads(self.body)["tag"], revision)

    def make_reference(self, repository: Repository, table: dict[str, str], name: str, start: str) -> None:
        if name in table:
            raise Refused(409, "", f"Reference already exists: {name}")
        table[name] = self.commit_of(repository, start)
        self.send(201, {})

    @route("POST", REPO + "/preupload/(?P<revision>.+)")
    def preupload(self, kind: str, name: str, revision: str) -> None:
        repository = self.repository(kind, name, write=True)
        files = repository.commits[self.commit_of(repository, revision)]
        answers = []
        for asked in json.loads(self.body)["files"]:
            path, large = asked["path"], is_lfs(asked["path"], asked["size"])
            answer = {"path": path, "shouldIgnore": False, "uploadMode": "lfs" if large else "regular"}
            if path in files:  # the client leaves out what is there already
                answer["oid"] = hashlib.sha256(files[path]).hexdigest() if large else blob_id(files[path])
            answers.append(answer)
        self.send(200, {"files": answers})

    @route("POST", REPO + "/commit/(?P<branch>.+)")
    def commit(self, kind: str, name: str, branch: str) -> None:
        repository = self.repository(kind, name, write=True)
        files = dict(repository.commits[self.commit_of(repository, branch)])
        for line in map(json.loads, self.body.splitlines()):
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.hub.lfs[value["oid"]]
            elif line["key"] == "deletedFile":
                del files[value["path"]]
        if errors := card_errors(files.get("README.md", b"").decode()):
            raise Refused(400, "", errors[0]["message"])
        commit = repository.commit(branch, files)
        self.send(200, {"success": True, "commitOid": commit, "commitUrl": f"{self.hub.url}/{name}/commit/{commit}"})


def entry(path: str, content: bytes) -> dict[str, Any]:
    """Describe a file as the Hub lists it."""
    found: dict[str, Any] = {"type": "file", "path": path, "oid": blob_id(content), "size": len(content)}
    if is_lfs(path, len(content)):
        found["lfs"] = {"oid": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 134}
    return found


def card_errors(content: str) -> list[dict[str, str]]:
    """Return what the Hub finds wrong with a card: names that are none, results without a task or metrics."""
    header = re.match(r"---\n(.*?)\n---", content, re.DOTALL)
    card = (yaml.safe_load(header[1]) or {}) if header else {}
    errors = []
    for key in ("base_model", "datasets"):
        values = card.get(key) or []
        for value in [values] if isinstance(values, str) else values:
            if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", value):
                errors.append({"message": f'"{key}" with value "{value}" is not valid. Use a model id.'})
    for model in card.get("model-index") or []:
        for result in model.get("results", []):
            if not result.get("task") or not result.get("metrics"):
                errors.append({"message": '"model-index[0].results[0]" needs a task and metrics'})
    return errors


class LocalHub:
    """The hub; `repositories` may be looked at and changed by tests.

    Attributes:
        lfs: contents by SHA-256 that came by the LFS protocol.
        requests: (method, path) of every request, in order.
        unknown: requests that no route answers.
        admitted: tokens that may read gated repositories.
    """

    def __init__(self, user: str = "tester", token: str = "hf_local_token_of_the_tests") -> None:
        self.user, self.token, self.lock = user, token, threading.RLock()
        self.repositories: dict[tuple[str, str], Repository] = {}
        self.lfs: dict[str, bytes] = {}
        self.requests: list[tuple[str, str]] = []
        self.unknown: list[tuple[str, str]] = []
        self.admitted: set[str] = set()
        handler = type("Conversation", (Conversation,), {"hub": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def environment(self, home: str) -> dict[str, str]:
        """Return the variables by which a client finds this hub and no other, with a cache at `home`."""
        return {
            "HF_ENDPOINT": self.url,
            "HF_HOME": home,
            "HF_TOKEN": self.token,
            "HF_HUB_OFFLINE": "0",
            "TRANSFORMERS_OFFLINE": "0",
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_UPDATE_CHECK": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "NO_PROXY": "127.0.0.1",
            "no_proxy": "127.0.0.1",
        }
