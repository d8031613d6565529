"""Names for models: versions that never change, and aliases that move. Plain files, safe under concurrent writers.

    <registry>/NAME/journal.jsonl            what was registered, promoted and noted, in order, sealed line by line
    <registry>/NAME/models/<sha256>.zip      the model files (model_file.py)

A version keeps its model and a copy of its lineage, so production does not depend on a run's directory.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import re
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mnist_jax import errors, events
from mnist_jax.record import blobs, journal, reader
from mnist_jax.registry import lineage

DEFAULT = Path("registry")
_PATIENCE_S = 60.0  # for other writers
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


@dataclasses.dataclass(frozen=True)
class Version:
    name: str
    version: int  # from 1
    registered: float  # unix seconds
    chain: Mapping[str, Any]  # lineage.chain at that time
    path: Path  # of the model file
    aliases: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def sha256(self) -> str:
        return self.chain["model"]["sha256"]


def register(root: Path, name: str, run: Path | str, note: str = "") -> Version:
    """Make the last model of a run the next version of `name`.

    Raises:
      UserError: the name is none, or there is no run with a model.
      RecordError: run or registry is damaged or cannot be written.
    """
    chain = lineage.chain(run)
    model = reader.read(run).of(events.Model)[-1]
    path = _model_path(root, _checked(name), model.blob.sha256)
    with _writing(root, name) as lines:
        if not path.exists():
            path.parent.mkdir(exist_ok=True)
            blobs.write_atomically(path, blobs.read(Path(run), model.blob))
        version = 1 + max((each.version for each in versions(root, name)), default=0)
        lines.append([{"time": time.time(), "action": "register", "version": version, "chain": chain}])
        if note:
            lines.append([{"time": time.time(), "action": "note", "version": version, "text": note}])
    return find(root, f"{name}@{version}")


def promote(root: Path, model: str, alias: str) -> Version:
    """Move an alias to a version: "mnist-cnn@3", or "mnist-cnn@staging" to promote what is staging now."""
    if not _NAME.fullmatch(alias) or alias.isdigit() or alias == "latest":
        raise errors.UserError(f"alias: expected a word such as production, found {alias!r}")
    find(root, model)  # before anything is created
    with _writing(root, model.partition("@")[0]) as lines:
        version = find(root, model)
        lines.append([{"time": time.time(), "action": "promote", "version": version.version, "alias": alias}])
    return find(root, f"{version.name}@{alias}")


def roll_back(root: Path, name: str, alias: str) -> Version:
    """Move an alias back to the version that it pointed to before."""
    find(root, f"{name}@{alias}")
    with _writing(root, name) as lines:
        past = _pointed(lines_of(root, name), alias)
        if len(past) < 2:
            raise errors.UserError(f"{name}@{alias}: expected an earlier version to roll back to, found only {past[0]}")
        lines.append([{"time": time.time(), "action": "roll_back", "version": past[-2], "alias": alias}])
    return find(root, f"{name}@{alias}")


def note(root: Path, model: str, text: str) -> Version:
    """Add a note to a version."""
    find(root, model)
    with _writing(root, model.partition("@")[0]) as lines:
        version = find(root, model)
        lines.append([{"time": time.time(), "action": "note", "version": version.version, "text": text}])
    return find(root, f"{version.name}@{version.version}")


def names(root: Path) -> list[str]:
    """Return the names in a registry."""
    return sorted(path.parent.name for path in root.glob("*/journal.jsonl") if path.stat().st_size)


def versions(root: Path, name: str) -> list[Version]:
    """Return the versions of a name, oldest first. Raises RecordError if the registry is damaged."""
    lines = lines_of(root, name)
    aliases = {line["alias"] for line in lines if "alias" in line}
    current = {alias: past[-1] for alias in sorted(aliases) if (past := _pointed(lines, alias))}
    return [Version(name, line["version"], line["time"], line["chain"],
                    _model_path(root, name, line["chain"]["model"]["sha256"]),
                    tuple(alias for alias, version in current.items() if version == line["version"]),
                    tuple(other["text"] for other in lines
                          if other["action"] == "note" and other["version"] == line["version"]))
            for line in lines if line["action"] == "register"]


def find(root: Path, model: str) -> Version:
    """Return NAME@VERSION, NAME@ALIAS, or the latest version of NAME.

    Raises:
      UserError: there is none.
      RecordError: the registry is damaged.
    """
    name, _, which = model.partition("@")
    known = versions(root, _checked(name))
    if not known:
        others = names(root)
        raise errors.UserError(f"{model}: expected a name in {root}, found {', '.join(others) or 'an empty registry'}"
                               f"{errors.suggestion(name, others)}; register one, or name another --registry")
    if which in ("", "latest"):
        return known[-1]
    for version in reversed(known):
        if which in (str(version.version), *version.aliases):
            return version
    places = [*(str(version.version) for version in known), *(alias for version in known for alias in version.aliases)]
    raise errors.UserError(f"{model}: expected {name}@ and one of {', '.join(places)}; found {which!r}"
                           f"{errors.suggestion(which, places)}")


def problems(root: Path, model: str) -> list[str]:
    """Return a line for everything in the chain of a version that does not match its digest, or is gone."""
    version = find(root, model)
    found = []
    try:
        if hashlib.sha256(version.path.read_bytes()).hexdigest() != version.sha256:
            found.append(f"{version.path}: damaged: the model file does not match its digest")
    except OSError as error:
        found.append(f"{version.path}: expected the model file: {error.strerror}")
    directory = Path(version.chain["run"]["directory"])
    if not (directory / "run.json").exists():
        return [*found, f"{directory}: expected the run {version.chain['run']['id']}, found none; what is registered of it "
                        f"cannot be checked"]
    broken = lineage.problems(directory)
    if not broken:
        now = lineage.chain(directory)
        broken = [f"{directory}: {part} is no longer what was registered" for part in now
                  if _without_place(now[part]) != _without_place(version.chain.get(part))]
    return found + broken


def _without_place(part: Any) -> Any:
    return {key: value for key, value in part.items() if key != "directory"} if isinstance(part, dict) else part


def lines_of(root: Path, name: str) -> list[dict[str, Any]]:
    """Return the journal of a name. Raises RecordError at a damaged line."""
    return list(journal.JournalReader(root / name / "journal.jsonl").new())


def _pointed(lines: list[dict[str, Any]], alias: str) -> list[int]:
    """Return the versions that an alias has pointed to, as far as they can be rolled back to; the last is the present one."""
    past: list[int] = []
    for line in lines:
        if line.get("alias") == alias:
            if line["action"] == "roll_back":
                past.pop()
            else:
                past.append(line["version"])
    return past


def _checked(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise errors.UserError(f"model name: expected letters, digits and ._- (100 at most), found {name!r}")
    return name


def _model_path(root: Path, name: str, sha256: str) -> Path:
    return root / name / "models" / f"{sha256}.zip"


@contextlib.contextmanager
def _writing(root: Path, name: str) -> Iterator[journal.Journal]:
    """Hold the journal of a name, alone among all writers."""
    folder = root / _checked(name)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lines = journal.Journal(folder / "journal.jsonl", _PATIENCE_S)
    except journal.Locked:
        raise errors.UserError(f"{folder}: another process has been writing it for {_PATIENCE_S:.0f} s; try again") from None
    except OSError as error:
        raise errors.UserError(f"{folder}: expected a writable registry, found: {error.strerror}; name another "
                               f"--registry") from error
    try:
        yield lines
    except OSError as error:
        raise errors.RecordError(f"{folder}: cannot be written: {error.strerror}; make room or restore access") from error
    finally:
        lines.close()
