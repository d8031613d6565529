"""Reads the evidence of the probes: what each client stored, which calls it accepted, their cost. Every finding has a quote."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from mnist_jax import errors
from mnist_jax.convert import untrusted
from mnist_jax.convert.comet import archive as comet_archive
from mnist_jax.convert.neptune import log as neptune_log

_QUOTED = 280  # characters


class Quote(NamedTuple):
    """A place in the evidence, and its text."""

    place: str
    text: str


class Item(NamedTuple):
    """Something that a client stored: Neptune's kind of operation or field and its path, or Comet's kind and name."""

    kind: str
    name: str
    note: str  # on what is stored of it, if not all
    quote: Quote


class ProbeCall(NamedTuple):
    """A call that a probe made; see `probing.Probe.call`."""

    criterion: str
    words: str
    leaves: str
    reach: str
    accepted: bool
    answer: str
    quote: Quote


class ProbeResult(NamedTuple):
    """The evidence of one probe; empty if it is missing."""

    problem: str  # how it failed
    items: tuple[Item, ...]
    calls: tuple[ProbeCall, ...]
    costs: dict[str, tuple[float, Quote]]  # seconds
    outside: tuple[Quote, ...]  # hosts that the client tried to reach
    folder: Path

    def items_under(self, name: str) -> list[Item]:
        """Return the items with a name, or with a path that begins or ends with it."""
        return [item for item in self.items if item.name == name or item.name.startswith(f"{name}/")
                or item.name.endswith(f"/{name}")]


def version(evidence: Path, tracker: str) -> str:
    """Return the version of the probed client; empty where it was not installed.

    Raises:
      UserError: the folder holds no evidence on this tracker.
    """
    return _client(evidence, tracker)["version"]


def python(evidence: Path) -> str:
    """Return the version of Python that the probes ran on."""
    return _client(evidence, "neptune")["python"]


def _client(evidence: Path, tracker: str) -> dict[str, str]:
    try:
        facts = json.loads((evidence / tracker / "client.json").read_text())
        return {name: str(facts[name]) for name in ("version", "python", "time")}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise errors.UserError(f"{evidence}: expected the evidence of a comparison, found none on {tracker}; choose a new "
                               f"folder for --evidence to probe again") from error


def read(evidence: Path, tracker: str, name: str, mode: str) -> ProbeResult:
    """Return the evidence of one probe."""
    folder = evidence / tracker / f"{name}-{mode}"
    calls: list[ProbeCall] = []
    costs: dict[str, tuple[float, Quote]] = {}
    for place, fact in _lines(evidence, folder / "calls.jsonl"):
        if "cost" in fact:
            seconds = float(fact["seconds"])
            costs[str(fact["cost"])] = (seconds, Quote(place, f"{fact['cost']}: {seconds:.3g} s"))
        elif "call" in fact:
            call = ProbeCall(fact["criterion"], fact["call"], fact["leaves"], fact["reach"], bool(fact["accepted"]),
                             fact["answer"], Quote(place, f"{fact['call']} -> {fact['answer']}"[:_QUOTED]))
            calls.append(call)
    outside = {fact["host"]: Quote(place, f"tried to reach {fact['host']}")
               for place, fact in _lines(evidence, folder / "outside.jsonl")}
    return ProbeResult(_problem(folder, name), tuple(_items(evidence, folder)), tuple(calls), costs, tuple(outside.values()),
                       folder)


def _problem(folder: Path, name: str) -> str:
    try:
        code = json.loads((folder / "end.json").read_text())["code"]
    except (OSError, ValueError, KeyError, TypeError):
        return "did not end"
    return "" if code == (-9 if name == "killed" else 0) else f"ended with exit code {code}: {folder / 'output.txt'} says why"


def contents(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Yield every file of the client, members of archives one by one, and the contents of the server."""
    for path in [*sorted((folder / "files").rglob("*")), folder / "server.jsonl"]:
        if not path.is_file():
            continue
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                yield from ((f"{path.name}, {name}", archive.read(name)) for name in archive.namelist())
        else:
            yield path.name, path.read_bytes()


def _items(evidence: Path, folder: Path) -> Iterator[Item]:
    if (folder / "server.jsonl").is_file():
        for place, fact in _lines(evidence, folder / "server.jsonl"):
            quote = Quote(place, f"{fact['kind']} {fact['name']}: {json.dumps(fact['value'])}"[:_QUOTED])
            yield Item(fact["kind"], fact["name"], fact.get("note", ""), quote)
        return
    for log in sorted((folder / "files").rglob("data-*.log")):
        yield from _of_neptune(evidence, log.parent)
    files = folder / "files"
    for archive in sorted({*files.rglob("*.zip"), *(path.parent for path in files.rglob(comet_archive.MESSAGES))}):
        if comet_archive.is_folder(archive) or comet_archive.is_archive(archive):
            yield from _of_comet(evidence, archive)


def _of_neptune(evidence: Path, folder: Path) -> Iterator[Item]:
    for record in neptune_log.operations(folder, untrusted.Account(), untrusted.Budget(folder)):
        operation = dict(record["obj"])
        kind, name = str(operation.pop("type")), "/".join(map(str, operation.pop("path")))
        if kind.startswith(("Clear", "Config")):  # they store nothing
            continue
        note = ""
        if kind in ("UploadFile", "UploadFileSet", "TrackFilesToArtifact") and not operation.get("tmp_file_name"):
            note = "its path only, not its bytes"
        place = f"{folder.relative_to(evidence)}, operation {record['version']}"
        yield Item(kind, name, note, Quote(place, f"{kind} {name} {json.dumps(operation)}"[:_QUOTED]))


def _of_comet(evidence: Path, path: Path) -> Iterator[Item]:
    with comet_archive.Archive(path, untrusted.Account(), allow_outside=False) as archive:
        place = str(path.relative_to(evidence))
        for number, (kind, payload) in enumerate(archive.messages(), 1):
            fields = {name: value for name, value in payload.items() if name not in ("message_id", "local_timestamp")}
            quote = Quote(f"{place}, message {number}", f"{kind} {json.dumps(fields)}"[:_QUOTED])
            yield Item(*_kind_and_name(kind, payload), "", quote)
        for tag in (archive.experiment() or {}).get("tags") or []:
            yield Item("tag", f"tag {tag}", "", Quote(f"{place}, {comet_archive.EXPERIMENT}", f"tags: {tag}"))


def _kind_and_name(kind: str, payload: dict[str, Any]) -> tuple[str, str]:
    """Return the kind and name of a message's fact, as a server lists it."""
    match kind:
        case "metric_msg":
            return "metric", str(payload["metric"]["metricName"])
        case "parameter_msg":
            return "parameter", str((payload.get("param") or payload["params"])["paramName"])
        case "log_other":
            return "other", str(payload["key"])
        case "system_info":
            return kind, str(payload["system_info"]["key"])
        case "file_upload":
            about = payload.get("additional_params") or {}
            name = str(about.get("fileName") or about.get("figName") or payload["upload_type"])
            return str(payload["upload_type"]), f"{about['groupingName']}/{name}" if about.get("groupingName") else name
        case "register_model":
            return "registry", f"registered {payload['model_name']}"
    return kind, kind


def _lines(evidence: Path, path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the JSON objects of a file with their places; incomplete lines are skipped."""
    if not path.is_file():
        return
    for number, line in enumerate(path.read_text(errors="replace").split("\n"), 1):
        try:
            fact = json.loads(line)
        except ValueError:
            continue
        if isinstance(fact, dict):
            yield f"{path.relative_to(evidence)}, line {number}", fact
