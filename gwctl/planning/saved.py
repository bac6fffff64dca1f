"""A plan in a file: what was reviewed, and the very files that it was made of, so that nothing else is applied.

The digest finds a file that was cut or edited by mistake. Who may write it could write another plan with another
digest; so applying plans the files again first, and refuses unless that gives the same changes.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from gwctl.client import Client, Refused
from gwctl.exits import Exit, Failure
from gwctl.files import File
from gwctl.planning.text import SIGNS
from gwctl.problems import from_json, show
from gwctl.whole import write_whole

SCHEMA: Final = "gwctl.saved-plan/v1"
PLAN_SECONDS: Final = 120.0
MOST: Final = 20


@dataclass(frozen=True, slots=True)
class Saved:
    """`plan`: the document as it was shown. `prune`: whether it was made with it."""

    files: tuple[File, ...]
    prune: bool
    plan: Mapping[str, Any]

    @property
    def base(self) -> int:
        return int(self.plan["base"]["revision"])


def write(path: Path, saved: Saved) -> None:
    """Readable by its owner only: files may hold what was not meant for everybody."""
    path.touch(mode=0o600)
    record = {
        "schema": SCHEMA,
        "files": [{"name": file.name, "sha256": _sha256(file.text), "text": file.text} for file in saved.files],
        "prune": saved.prune,
        "plan": dict(saved.plan),
    }
    write_whole(path, json.dumps({"digest": digest(record), **record}, indent=1, ensure_ascii=False) + "\n")


def read(path: Path) -> Saved:
    """Raises Failure: 1 if it cannot be read, 3 if it is no plan, or not the one that was written."""
    try:
        record = json.loads(path.read_text())
        if record["schema"] != SCHEMA:
            raise ValueError
        files = tuple(File(str(one["name"]), str(one["text"])) for one in record["files"])
        whole = record.pop("digest") == digest(record)
        saved = Saved(files, bool(record["prune"]), record["plan"])
        whole = whole and all(one["sha256"] == _sha256(one["text"]) for one in record["files"]) and saved.base >= 0
    except OSError as error:
        raise Failure(Exit.FAILED, f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise Failure(Exit.INVALID, f"{path} is no plan", "gwctl plan FILE... --out writes one") from None
    if not whole:
        raise Failure(Exit.INVALID, f"{path} was changed after it was made: nothing was applied", "make the plan anew")
    return saved


def digest(record: Mapping[str, Any]) -> str:
    """Over everything else in the file."""
    return _sha256(json.dumps(record, sort_keys=True, ensure_ascii=False, separators=(",", ":")))


def _sha256(text: str) -> str:
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


def verified(server: Client, saved: Saved) -> dict[str, Any]:
    """What to ask `/v1/apply` for. Raises Failure 4 if the head is another one by now, 3 if the plan is not theirs."""
    request = {"prune": saved.prune, "expected_revision": saved.base}
    now = ask(server, saved.files, request)
    if now["changes"] != saved.plan["changes"]:
        message = "the plan's files change something else than it says: nothing was applied"
        raise Failure(Exit.INVALID, message, "make the plan anew")
    return request


def ask(server: Client, files: Sequence[File], request: Mapping[str, Any]) -> dict[str, Any]:
    """The plan of the server. Problems are shown; raises Failure, 4 for another head with what changed since."""
    body = {"files": [{"name": file.name, "text": file.text} for file in files], **request}
    try:
        found: dict[str, Any] = server.post("/v1/plan", body, timeout=PLAN_SECONDS)
    except Refused as refused:
        expected = request.get("expected_revision")
        if refused.exit_code == Exit.CONFLICT and expected is not None and not refused.errors:
            raise stale(server, int(expected)) from None
        show(map(from_json, refused.errors), files)
        raise
    return found


def stale(server: Client, base: int) -> Failure:
    """Failure 4 that says what was changed since revision `base`, by whom."""
    rows = [row for row in server.get("/v1/revisions", limit=MOST)["revisions"] if row["revision"] > base]
    head = max((row["revision"] for row in rows), default=base)
    lines = [f"  {row['revision']}  {row['created_at']}  {row['author']}  {row['message']}".rstrip() for row in rows]
    if head > base:
        changes = server.get(f"/v1/revisions/{base}/diff/{head}", timeout=PLAN_SECONDS)["changes"]
        lines += [f"    {SIGNS[one['action']]} {one['kind']} {one['name']}" for one in changes[:MOST]]
        lines += [f"    … and {len(changes) - MOST} more"] if len(changes) > MOST else []
    since = "\n".join([f"the plan is of revision {base}, and the head is {head}; changed since:", *lines])
    return Failure(Exit.CONFLICT, since, "look at what changed, and make the plan anew")
