"""Reads the fields and series that our Neptune tracker wrote back into events: the inverse of tracking/neptune/tracker.py."""

from __future__ import annotations

import io
import math
import re
import zipfile
from collections.abc import Callable, Iterator
from typing import Any

from mnist_jax import events
from mnist_jax.convert import untrusted
from mnist_jax.convert.neptune import attributes, log

READ_ERRORS = (KeyError, ValueError, TypeError, AttributeError, IndexError, OverflowError)  # of fields that are not ours

_NOT_FINITE = re.compile(r"(.*) is (NaN|Infinity|-Infinity) at step -?\d+", re.S)
_NOTE_SUFFIX = "_not_finite"
_SAME_STEP = 2.0**-10  # between two texts of one step (tracking/neptune/client.py)
_NOT_EVENTS = ("sys/", "run/", "source_code/")
_Facts = Iterator[tuple[str, events.Event]]  # each with the path of its attribute


def read(reader: attributes.AttributeReader, state: log.State) -> _Facts:
    """Yield the events that our tracker wrote, and remove their attributes from `state`.

    Raises:
      One of READ_ERRORS: a field or a file is not as our tracker writes it.
    """
    paths = list(state)
    series = {path: state.pop(path).value for path in paths if state[path].kind.endswith("_series")}
    files = {path: state.pop(path).value for path in paths if path in state and state[path].kind == "file"
             and path.startswith(("artifacts/", "long_texts/", "large_images/", "model/file", "source/patch", "source/files"))}

    def take(prefix: str) -> dict[str, Any]:
        facts = reader.under(state, prefix)
        for name in facts:
            del state[prefix + name]
        return facts

    def content(path: str) -> bytes:
        data = reader.content(path, files[path])
        if data is None:
            raise ValueError("one of its files is missing")
        return data

    yield from _from_fields(reader, state, [path for path in paths if path not in series], take, files, content)
    floats: dict[str, list[untrusted.ForeignPoint]] = {}
    for path, points in series.items():
        if path == "run/status":
            yield from ((path, events.Status(_integer(point.step), point.value)) for point in points)
        elif path.startswith("notes/") and path.endswith(_NOTE_SUFFIX):
            name = path.removeprefix("notes/").removesuffix(_NOTE_SUFFIX)
            floats[name] = sorted([*floats.get(name, []), *map(_from_note, points)], key=lambda point: point.step)
        elif path.startswith("texts/"):
            name = path.removeprefix("texts/")
            yield from ((path, events.Text(name, _integer(point.step), point.value)) for point in points)
        elif path.startswith("images/"):
            for point in points:
                blob = reader.write_blob(attributes.decode_base64(point.value["data"]), str(point.value["name"]))
                caption = str(point.value["description"])
                yield path, events.Image(path.removeprefix("images/"), _integer(point.step), blob, caption)
        elif points and isinstance(points[0].value, float):
            floats[path] = [*floats.get(path, []), *points]
        elif points:
            state[path] = log.Attribute("string_series", points)
    for metrics in untrusted.same_steps(floats):
        yield next((path for path in paths if path in metrics.values), paths[0]), metrics
    for path in [path for path in state if path.startswith(_NOT_EVENTS)]:
        del state[path]


def _from_fields(reader: attributes.AttributeReader, state: log.State, paths: list[str],
                 take: Callable[[str], dict[str, Any]], files: dict[str, Any], content: Callable[[str], bytes]) -> _Facts:
    first: dict[str, str] = {}
    for path in paths:
        first.setdefault(path.partition("/")[0], path)
    for space, at in first.items():
        match space:
            case "environment":
                yield at, events.Environment(take("environment/"))
            case "parameters":
                names = {_path(name): name for name in reader.scalar(state, "run/parameter_names") or ()}
                yield at, events.Hyperparameters({names.get(path) or path.replace("/", "."): value
                                                  for path, value in take("parameters/").items()})
            case "datasets":
                for split in dict.fromkeys(path.split("/")[1] for path in paths if path.startswith("datasets/")):
                    yield f"datasets/{split}/name", untrusted.dataset(split, take(f"datasets/{split}/"))
            case "source":
                yield at, _source(reader, take("source/"), files, content)
            case "model":
                scores, metadata = take("model/scores/"), take("model/metadata/")
                facts = take("model/")
                blob = reader.write_blob(content("model/file"), str(facts["file_name"]))
                yield at, events.Model(str(facts["name"]), str(facts["version"]), int(facts["step"]), blob,
                                       tuple(facts["datasets"]), tuple(facts["parents"]), scores, metadata)
            case "artifacts":
                for path in [path for path in files if path.startswith("artifacts/")]:
                    name = path.removeprefix("artifacts/")
                    facts = take(f"artifacts_metadata/{name}/")
                    kind = str(facts.pop("kind"))
                    facts.pop("sha256", None)
                    title = str(facts.pop("file_name", f"{name}.{files[path].get('ext')}"))
                    yield path, events.Artifact(name, reader.write_blob(content(path), title), kind, facts)
            case "long_texts":
                for path in [path for path in files if path.startswith("long_texts/")]:
                    name, _, step = path.removeprefix("long_texts/").rpartition("/")
                    yield path, events.Text(name, int(step), content(path).decode())
            case "large_images":
                for path in [path for path in files if path.startswith("large_images/")]:
                    name, _, step = path.removeprefix("large_images/").rpartition("/")
                    facts = take(f"large_images_metadata/{name}/{step}/")
                    blob = reader.write_blob(content(path), str(facts["file_name"]))
                    yield path, events.Image(name, int(step), blob, str(facts["caption"]))


def _path(name: str) -> str:
    return "/".join(filter(None, name.replace(".", "/").split("/")))  # the client drops empty names


def _source(reader: attributes.AttributeReader, facts: dict[str, Any], files: dict[str, Any],
            content: Callable[[str], bytes]) -> events.Source:
    patch, sources = None, []
    if "source/patch" in files:
        patch = reader.write_blob(content("source/patch"), str(facts.get("patch_name", "uncommitted.diff")))
    if "source/files" in files:
        try:
            with zipfile.ZipFile(io.BytesIO(content("source/files"))) as archive:
                if sum(member.file_size for member in archive.infolist()) > untrusted.FILE_BYTES:
                    raise ValueError("the archive of source files is too large")
                sources = [reader.write_blob(archive.read(member), member.filename) for member in archive.infolist()]
        except (zipfile.BadZipFile, RuntimeError, EOFError, OSError) as error:
            raise ValueError(f"the archive of source files is damaged: {error}") from error
    return events.Source(facts["commit"], facts["branch"], facts["remote"], bool(facts["dirty"]), patch, tuple(sources))


def _from_note(point: untrusted.ForeignPoint) -> untrusted.ForeignPoint:
    match = _NOT_FINITE.fullmatch(point.value)  # type: ignore[call-overload]
    if match is None:
        raise ValueError("a note that is not of a non-finite value")
    return point._replace(value=float(match[2]))


def _integer(step: Any) -> int:
    if not isinstance(step, int | float) or step % _SAME_STEP:
        raise ValueError(f"expected an integer step, found {step!r}")
    return math.floor(step)
