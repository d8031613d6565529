"""Converts any program's Neptune attributes to the nearest kind of event; the account names the rest."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from typing import Any

from mnist_jax import events
from mnist_jax.convert import untrusted
from mnist_jax.convert.neptune import attributes, log

_ABOUT_THE_RUN = ("sys/", "monitoring/", "source_code/")


def read(reader: attributes.AttributeReader, state: log.State) -> Iterator[tuple[str, events.Event]]:
    """Yield events of every attribute, each with the path of the attribute."""
    facts: dict[str, Any] = {}
    parameters: dict[str, Any] = {}
    for path, attribute in state.items():
        match attribute.kind:
            case "float_series":
                if attribute.value:
                    metrics = untrusted.metrics(path, attribute.value, reader.write_blob, reader.account)
                    yield from ((path, event) for event in metrics)
            case "string_series":
                yield from ((path, event) for event in _texts(path, attribute.value, reader.account))
            case "image_series":
                yield from ((path, event) for event in _images(reader, path, attribute.value))
            case "file":
                data = reader.content(path, attribute.value)
                if data is not None:
                    extension = str(attribute.value.get("ext") or "")
                    title = path.rpartition("/")[2] + (f".{extension}" if extension else "")
                    yield path, events.Artifact(path, reader.write_blob(data, title), "file", {})
            case "file_set":
                for name, data in reader.file_set(path, attribute.value):
                    yield path, events.Artifact(name, reader.write_blob(data, name.rpartition("/")[2]), "file", {})
            case "artifact_files":
                reader.account.skip("artifacts, of which the folder holds only the paths of the files", path)
            case kind if path.startswith(_ABOUT_THE_RUN):
                value = _scalar(kind, attribute.value)
                facts[f"neptune/{path}"] = ", ".join(value) if isinstance(value, list) else value
            case kind:
                dotted = path.replace("/", ".")
                name = path if dotted in parameters else dotted
                parameters[name] = untrusted.parameter(name, _scalar(kind, attribute.value), reader.account)
    first = next(iter(state), "")
    if facts:
        yield first, events.Environment(facts)
    if parameters:
        yield first, events.Hyperparameters(parameters)


def _scalar(kind: str, value: Any) -> Any:
    if kind == "datetime":
        try:
            return datetime.datetime.fromtimestamp(value / 1000, datetime.UTC).isoformat()
        except (OverflowError, ValueError, OSError):
            return value
    return value


def _texts(path: str, points: list[untrusted.ForeignPoint], account: untrusted.Account) -> Iterator[events.Text]:
    if any(point.step is not None and point.step != int(point.step) for point in points if _finite(point.step)):
        account.change("steps of texts rounded down to integers", path)
    entries: list[str] = []
    for point in points:
        if _finite(point.step) and point.step is not None:
            yield events.Text(path, int(point.step), str(point.value))
        else:
            entries.append(str(point.value))
    if entries:  # no steps: lines of one text, such as captured output
        account.change("entries of a text without steps joined, without their times", path)
        yield events.Text(path, 0, ("" if path.startswith("monitoring/") else "\n").join(entries))


def _images(reader: attributes.AttributeReader, path: str, points: list[untrusted.ForeignPoint]) -> Iterator[events.Event]:
    for number, point in enumerate(points):
        image = point.value if isinstance(point.value, dict) else {"data": point.value}
        if not image.get("data"):  # type: ignore[attr-defined]
            reader.account.skip("images without contents", path)
            continue
        try:
            data = attributes.decode_base64(image["data"])  # type: ignore[index]
        except ValueError as error:
            reader.account.skip(f"images that could not be read ({error})", path)
            continue
        is_integer = _finite(point.step) and point.step is not None and point.step == int(point.step)
        if not is_integer:
            reader.account.change("images numbered from 0, because they have no integer steps", path)
        step = int(point.step) if is_integer else number
        title = str(image.get("name") or f"{path.rpartition('/')[2]}-{step}.png")  # type: ignore[attr-defined]
        caption = str(image.get("description") or "")  # type: ignore[attr-defined]
        yield untrusted.picture(path, step, data, title, caption, reader.write_blob)


def _finite(step: Any) -> bool:
    return step is None or (isinstance(step, int | float) and abs(step) <= untrusted.STEP_LIMIT)
