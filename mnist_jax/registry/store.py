"""The model registry: versions that never change, and aliases that move. Plain files, safe with concurrent writers.

    <registry>/NAME/journal.jsonl            registrations, promotions and notes, in order, sealed line by line
    <registry>/NAME/models/<sha256>.zip      the model files (model_file.py)

A version holds its model and a copy of its lineage, so that it does not depend on the run's directory.
"""

from __future__ import annotations

import contextlib
import dataclasses
import re
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mnist_jax import errors, events
from mnist_jax.record import blobs, files, journal, reader
from mnist_jax.registry import lineage

DEFAULT = Path("registry")
_PATIENCE_S = 60.0  # for other writers
_DIGEST = re.compile(r"[0-9a-f]{64}")
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


def register(root: Path | str, name: str, run: Path | str, note: str = "") -> Version:
    """Make the last model of a run the next version of `name`.

    Raises:
      UserError: the name is not valid, or there is no run with a model.
      RecordError: the run is damaged, or the registry is damaged or not writable.
    """
    chain = lineage.chain(run)
    model = reader.read(run).of(events.Model)[-1]
    path = _model_path(root, _check_name(name), model.blob.sha256)
    with _writing(root, name) as lines:
        if not path.exists():
            path.parent.mkdir(exist_ok=True)
            files.write_atomically(path, blobs.read(Path(run), model.blob))
        version = 1 + max((each.version for each in versions(root, name)), default=0)
        lines.append([{"time": time.time(), "action": "register", "version": version, "chain": chain}])
        if note:
            lines.append([{"time": time.time(), "action": "note", "version": version, "text": note}])
    return find(root, f"{name}@{version}")


def promote(root: Path | str, model: str, alias: str) -> Version:
    """Move an alias to a version, such as "mnist-cnn@3", or "mnist-cnn@staging" for the version of that alias."""
    if not _NAME.fullmatch(alias) or alias.isdigit() or alias == "latest":
        raise errors.UserError(f"alias: expected a word such as production, found {alias!r}")
    find(root, model)  # before a folder is created
    with _writing(root, model.partition("@")[0]) as lines:
        version = find(root, model)
        lines.append([{"time": time.time(), "action": "promote", "version": version.version, "alias": alias}])
    return find(root, f"{version.name}@{alias}")


def roll_back(root: Path | str, name: str, alias: str) -> Version:
    """Move an alias back to the version that it pointed to before."""
    find(root, f"{name}@{alias}")
    with _writing(root, name) as lines:
        history = _alias_history(lines_of(root, name), alias)
        if len(history) < 2:
            raise errors.UserError(f"{name}@{alias}: expected an earlier version to roll back to, found only {history[0]}")
        lines.append([{"time": time.time(), "action": "roll_back", "version": history[-2], "alias": alias}])
    return find(root, f"{name}@{alias}")


def note(root: Path | str, model: str, text: str) -> Version:
    """Add a note to a version."""
    find(root, model)
    with _writing(root, model.partition("@")[0]) as lines:
        version = find(root, model)
        lines.append([{"time": time.time(), "action": "note", "version": version.version, "text": text}])
    return find(root, f"{version.name}@{version.version}")


def names(root: Path | str) -> list[str]:
    """Return the names in a registry."""
    return sorted(path.parent.name for path in Path(root).glob("*/journal.jsonl") if path.stat().st_size)


def versions(root: Path | str, name: str) -> list[Version]:
    """Return the versions of a name, oldest first. Raises RecordError if the registry is damaged."""
    try:
        return _versions(root, name)
    except (KeyError, TypeError, AttributeError, IndexError) as error:  # sealed, but not by `register`
        raise errors.RecordError(f"{Path(root, name, 'journal.jsonl')}: damaged: {type(error).__name__}: {error}") from error


def _versions(root: Path | str, name: str) -> list[Version]:
    lines = lines_of(root, name)
    aliases = {line["alias"] for line in lines if "alias" in line}
    current = {alias: history[-1] for alias in sorted(aliases) if (history := _alias_history(lines, alias))}
    for line in lines:
        if line["action"] == "register":
            _check_chain(line["chain"])
    return [Version(name, line["version"], line["time"], line["chain"],
                    _model_path(root, name, line["chain"]["model"]["sha256"]),
                    tuple(alias for alias, version in current.items() if version == line["version"]),
                    tuple(other["text"] for other in lines
                          if other["action"] == "note" and other["version"] == line["version"]))
            for line in lines if line["action"] == "register"]


def _check_chain(chain: Any) -> None:
    """Raise KeyError or TypeError where a chain is not one of lineage.py."""
    for key, kind in (("model", dict), ("run", dict), ("config", dict), ("datasets", dict), ("source", list),
                      ("environment", dict), ("metrics", dict)):
        if not isinstance(chain[key], kind):
            raise TypeError(f"expected the {key} of a chain, found {str(chain[key])[:40]!r}")
    if not isinstance(chain["run"]["directory"], str):
        raise TypeError(f"expected a directory, found {str(chain['run']['directory'])[:40]!r}")


def find(root: Path | str, model: str) -> Version:
    """Return NAME@VERSION, NAME@ALIAS, or the latest version of NAME.

    Raises:
      UserError: there is none.
      RecordError: the registry is damaged.
    """
    name, _, which = model.partition("@")
    existing = versions(root, _check_name(name))
    if not existing:
        others = names(root)
        raise errors.UserError(f"{model}: expected a name in {root}, found {', '.join(others) or 'an empty registry'}"
                               f"{errors.suggestion(name, others)}; register one, or name another --registry")
    if which in ("", "latest"):
        return existing[-1]
    for version in reversed(existing):
        if which in (str(version.version), *version.aliases):
            return version
    choices = [*(str(version.version) for version in existing), *(alias for version in existing for alias in version.aliases)]
    raise errors.UserError(f"{model}: expected {name}@ and one of {', '.join(choices)}; found {which!r}"
                           f"{errors.suggestion(which, choices)}")


def problems(root: Path | str, model: str) -> list[str]:
    """Return a line for each link in the chain of a version that does not match its digest, or is missing."""
    version = find(root, model)
    lines = []
    try:
        if files.digest(version.path) != version.sha256:
            lines.append(f"{version.path}: damaged: the model file does not match its digest")
    except OSError as error:
        lines.append(f"{version.path}: expected the model file: {error.strerror}")
    directory = Path(version.chain["run"]["directory"])
    if not (directory / "run.json").exists():
        return [*lines, f"{directory}: expected the run {version.chain['run']['id']}, found none; its registered facts cannot "
                        f"be checked"]
    run_problems = lineage.problems(directory)
    if not run_problems:
        current = lineage.chain(directory)
        run_problems = [f"{directory}: {link} differs from what was registered" for link in current
                        if _without_directory(current[link]) != _without_directory(version.chain.get(link))]
    return lines + run_problems


def _without_directory(link: Any) -> Any:
    return {key: value for key, value in link.items() if key != "directory"} if isinstance(link, dict) else link


def lines_of(root: Path | str, name: str) -> list[dict[str, Any]]:
    """Return the journal of a name. Raises RecordError at a damaged line."""
    return list(journal.JournalReader(Path(root, name, "journal.jsonl")).new())


def _alias_history(lines: list[dict[str, Any]], alias: str) -> list[int]:
    """Return the versions of an alias that can be rolled back to, and last the current one."""
    history: list[int] = []
    for line in lines:
        if line.get("alias") == alias:
            if line["action"] == "roll_back":
                history.pop()
            else:
                history.append(line["version"])
    return history


def _check_name(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise errors.UserError(f"model name: expected letters, digits and ._- (100 at most), found {name!r}")
    return name


def _model_path(root: Path | str, name: str, sha256: str) -> Path:
    if not (isinstance(sha256, str) and _DIGEST.fullmatch(sha256)):
        raise errors.RecordError(f"{Path(root, name)}: damaged: expected the digest of a model, found {str(sha256)[:80]!r}")
    return Path(root, name, "models", f"{sha256}.zip")


@contextlib.contextmanager
def _writing(root: Path | str, name: str) -> Iterator[journal.Journal]:
    """Open the journal of a name, as its only writer."""
    folder = Path(root, _check_name(name))
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
        raise errors.RecordError(f"{folder}: cannot be written: {error.strerror}; free disk space or restore access") from error
    finally:
        lines.close()
