"""Reads a Comet 3.x offline archive into events: those of our tracker exactly, any other as the nearest kind.

Our tracker marks the end of every event in the messages (`run/events`), so the messages between two marks are one event.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mnist_jax import events
from mnist_jax.convert import untrusted
from mnist_jax.convert.comet import archive as comet_archive
from mnist_jax.convert.comet import messages as comet_messages
from mnist_jax.convert.comet import others, ours
from mnist_jax.record import writer
from mnist_jax.tracking import values

_MARK = "run/events"
_Message = tuple[str, dict[str, Any]]


def read(path: Path, write_blob: untrusted.WriteBlob, allow_outside: bool = False) -> untrusted.ForeignRun:
    """Return the run in a Comet archive, or in the temporary folder of a killed client.

    Args:
      write_blob: writes the bytes of a file and returns their address.
      allow_outside: read files that a message names by an absolute path, where they still are.

    Raises:
      UserError: the archive cannot be read, or is damaged.
    """
    account = untrusted.Account()
    with comet_archive.Archive(path, account, allow_outside) as archive:
        messages = sorted(archive.messages(), key=lambda message: _number(message[1]))
        experiment = archive.experiment()
        contents = comet_messages.read(messages, untrusted.Account())
        if untrusted.is_run_id(contents.others.get("run/id")):
            run = _our_run(contents, experiment or {})
            account.change("times of metrics are those of the sync, to a millisecond", "Comet has its own clock")
            facts = list(_marked(archive, messages, write_blob, account) if _MARK in contents.others
                         else _unmarked(archive, messages, write_blob, account))
            status = contents.others.get("run/final_status")
        else:
            run = _their_run(path, contents, experiment or {})
            facts = list(others.read(archive, comet_messages.read(messages, account), write_blob, account))
            status = None if experiment is None or archive.torn else "finished"
    source = f"the Comet 3.x archive {path.name} (experiment {(experiment or {}).get('offline_id', 'unknown')})"
    return untrusted.ForeignRun(source, run, facts, status if status in events.STATUSES else None, account)


def _number(payload: dict[str, Any]) -> int:
    number = payload.get("message_id")
    return number if isinstance(number, int) else 0


def _our_run(contents: comet_messages.Messages, experiment: dict[str, Any]) -> events.RunInfo:
    fields = {name.removeprefix("run/"): values.decode(value) for name, value in contents.others.items()
              if name.startswith("run/")}
    config, command, tags, created = fields.get("config"), fields.get("command"), fields.get("tags"), fields.get("created")
    steps_per_epoch = fields.get("steps_per_epoch")
    try:
        arguments = tuple(shlex.split(command)) if isinstance(command, str) else ()
    except ValueError:
        arguments = (str(command),)
    return events.RunInfo(
        fields["id"], str(fields.get("name") or contents.others.get("Name") or ""), _created(created, experiment),
        config if isinstance(config, dict) else {}, arguments,
        fields["parent"] if isinstance(fields.get("parent"), str) else None,
        tuple(map(str, tags)) if isinstance(tags, list) else _tags(experiment), str(fields.get("description") or ""),
        steps_per_epoch if isinstance(steps_per_epoch, int) and steps_per_epoch > 0 else None)


def _their_run(path: Path, contents: comet_messages.Messages, experiment: dict[str, Any]) -> events.RunInfo:
    first = min((metric.time for metric in contents.metrics), default=0.0)
    key = experiment.get("offline_id")
    run_id = str(key) if untrusted.is_run_id(key) else writer.new_id()
    return events.RunInfo(run_id, str(contents.others.get("Name") or path.stem),
                          _created(first, experiment), {}, (), tags=_tags(experiment))


def _created(created: Any, experiment: dict[str, Any]) -> float:
    return untrusted.seconds(created) or untrusted.seconds(experiment.get("start_time")) / 1000


def _tags(experiment: dict[str, Any]) -> tuple[str, ...]:
    tags = experiment.get("tags")
    return tuple(sorted(map(str, tags))) if isinstance(tags, list) else ()


def _marked(archive: comet_archive.Archive, messages: list[_Message], write_blob: untrusted.WriteBlob,
            account: untrusted.Account) -> Iterator[events.Event]:
    piece: list[_Message] = []
    before: Any = None
    number = _number(messages[0][1])
    for kind, payload in messages:
        if _number(payload) > number + 1:
            account.skip("messages that are not in the archive", f"numbers {number + 1} to {_number(payload) - 1}")
            piece.append(("lost", {}))
        number = _number(payload)
        if kind != "log_other" or payload.get("key") != _MARK:
            piece.append((kind, payload))
            continue
        mark = payload.get("value")
        if before is not None:
            yield from _event(archive, piece, write_blob, account, refused=mark == before)
        before, piece = mark, []
    rest = [name for name in comet_messages.read(piece, account).names()
            if name not in ("run/final_status", ours.AUTOMATIC_METRIC, *comet_messages.AUTOMATIC_OTHERS)]
    if rest:
        account.skip("incomplete events at the end", ", ".join(rest[:3]))


def _event(archive: comet_archive.Archive, piece: list[_Message], write_blob: untrusted.WriteBlob,
           account: untrusted.Account, *, refused: bool) -> Iterator[events.Event]:
    about = ", ".join(comet_messages.read(piece, untrusted.Account()).names()[:3])
    if refused:
        account.skip("events that Comet had refused", about)
    elif any(kind == "lost" for kind, _ in piece):
        account.skip("events of which messages are missing", about)
    else:
        try:
            yield untrusted.only(list(ours.read(archive, comet_messages.read(piece, account), write_blob)))
        except ours.READ_ERRORS as error:
            account.skip(f"events that could not be read ({error})", about)


def _unmarked(archive: comet_archive.Archive, messages: list[_Message], write_blob: untrusted.WriteBlob,
              account: untrusted.Account) -> list[events.Event]:
    account.change("events without marks: one event may have become several, or several one", archive.path.name)
    contents = comet_messages.read(messages, account)
    try:
        facts = list(ours.read(archive, contents, write_blob))
    except ours.READ_ERRORS as error:
        account.change(f"messages that our tracker does not write, converted as any program's ({error})", "")
        contents, facts = comet_messages.read(messages, untrusted.Account()), []
    return [*facts, *others.read(archive, contents, write_blob, account)]
