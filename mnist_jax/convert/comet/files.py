"""A Comet 3.x offline archive as events: those of our tracker are found again, any other is mapped to the nearest kind.

Our tracker marks the end of every event in the messages (`run/events`), so what lies between two marks is one event.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mnist_jax import events
from mnist_jax.convert import untrusted
from mnist_jax.convert.comet import archive as convert_archive
from mnist_jax.convert.comet import messages as convert_messages
from mnist_jax.convert.comet import others
from mnist_jax.convert.comet import ours as convert_ours
from mnist_jax.record import writer
from mnist_jax.tracking import values

_MARK = "run/events"
_Message = tuple[str, dict[str, Any]]


def read(path: Path, keep: untrusted.Keep, allow_outside: bool = False) -> untrusted.Found:
    """Return the run in a Comet archive, or in the temporary folder of a killed client.

    Args:
      keep: keeps the bytes of a file and returns their address.
      allow_outside: read files that a message names by an absolute path, where they still are.

    Raises:
      UserError: the archive cannot be read, or is damaged.
    """
    account = untrusted.Account()
    with convert_archive.Archive(path, account, allow_outside) as archive:
        messages = sorted(archive.messages(), key=lambda message: _number(message[1]))
        experiment = archive.experiment()
        whole = convert_messages.read(messages, untrusted.Account())
        ours = untrusted.is_run_id(whole.others.get("run/id"))
        if ours:
            run = _our_run(whole, experiment or {})
            account.change("times of metrics are those of the sending, to a millisecond", "Comet keeps its own clock")
            found = list(_marked(archive, messages, keep, account) if _MARK in whole.others
                         else _unmarked(archive, messages, keep, account))
            status = whole.others.get("run/final_status")
        else:
            run = _their_run(path, whole, experiment or {})
            found = list(others.read(archive, convert_messages.read(messages, account), keep, account))
            status = None if experiment is None or archive.torn else "finished"
    return untrusted.Found(f"a Comet 3.x archive, {path.name} (experiment {(experiment or {}).get('offline_id', 'unknown')})",
                         run, found, status if status in events.STATUSES else None, account)


def _number(payload: dict[str, Any]) -> int:
    number = payload.get("message_id")
    return number if isinstance(number, int) else 0


def _our_run(stated: convert_messages.Messages, experiment: dict[str, Any]) -> events.RunInfo:
    held = {name.removeprefix("run/"): values.value(value) for name, value in stated.others.items() if name.startswith("run/")}
    config, command, tags, created = held.get("config"), held.get("command"), held.get("tags"), held.get("created")
    steps_per_epoch = held.get("steps_per_epoch")
    try:
        words = tuple(shlex.split(command)) if isinstance(command, str) else ()
    except ValueError:
        words = (str(command),)
    return events.RunInfo(
        held["id"], str(held.get("name") or stated.others.get("Name") or ""), _created(created, experiment),
        config if isinstance(config, dict) else {}, words, held["parent"] if isinstance(held.get("parent"), str) else None,
        tuple(map(str, tags)) if isinstance(tags, list) else _tags(experiment), str(held.get("description") or ""),
        steps_per_epoch if isinstance(steps_per_epoch, int) and steps_per_epoch > 0 else None)


def _their_run(path: Path, stated: convert_messages.Messages, experiment: dict[str, Any]) -> events.RunInfo:
    first = min((metric.time for metric in stated.metrics), default=0.0)
    key = experiment.get("offline_id")
    return events.RunInfo(key if untrusted.is_run_id(key) else writer.new_id(), str(stated.others.get("Name") or path.stem),  # type: ignore[arg-type]
                      _created(first, experiment), {}, (), tags=_tags(experiment))


def _created(created: Any, experiment: dict[str, Any]) -> float:
    return untrusted.seconds(created) or untrusted.seconds(experiment.get("start_time")) / 1000


def _tags(experiment: dict[str, Any]) -> tuple[str, ...]:
    tags = experiment.get("tags")
    return tuple(sorted(map(str, tags))) if isinstance(tags, list) else ()


def _marked(archive: convert_archive.Archive, messages: list[_Message], keep: untrusted.Keep,
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
            yield from _event(archive, piece, keep, account, refused=mark == before)
        before, piece = mark, []
    rest = [name for name in convert_messages.read(piece, account).names()
            if name not in ("run/final_status", convert_ours.AUTOMATIC_METRIC, *convert_messages.AUTOMATIC_OTHERS)]
    if rest:
        account.skip("events cut off at the end", ", ".join(rest[:3]))


def _event(archive: convert_archive.Archive, piece: list[_Message], keep: untrusted.Keep, account: untrusted.Account, *,
           refused: bool) -> Iterator[events.Event]:
    about = ", ".join(convert_messages.read(piece, untrusted.Account()).names()[:3])
    if refused:
        account.skip("events that Comet had refused", about)
    elif any(kind == "lost" for kind, _ in piece):
        account.skip("events of which messages are missing", about)
    else:
        try:
            yield untrusted.one(list(convert_ours.read(archive, convert_messages.read(piece, account), keep)))
        except convert_ours.NOT_READ as error:
            account.skip(f"events that could not be read ({error})", about)


def _unmarked(archive: convert_archive.Archive, messages: list[_Message], keep: untrusted.Keep,
              account: untrusted.Account) -> list[events.Event]:
    account.change("events without marks: what one event said may be several, or the other way round", archive.path.name)
    stated = convert_messages.read(messages, account)
    try:
        found = list(convert_ours.read(archive, stated, keep))
    except convert_ours.NOT_READ as error:
        account.change(f"messages that are not as our tracker writes them, mapped as any program's ({error})", "")
        stated, found = convert_messages.read(messages, untrusted.Account()), []
    return [*found, *others.read(archive, stated, keep, account)]
