"""A Neptune 1.x offline folder as events: those of our tracker are found again, any other is mapped to the nearest kind.

Our tracker marks the end of every event in the log (`run/events`), so each piece between two marks is one event.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path

from mnist_jax import events
from mnist_jax.convert import untrusted
from mnist_jax.convert.neptune import attributes, others
from mnist_jax.convert.neptune import log as convert_log
from mnist_jax.convert.neptune import ours as convert_ours
from mnist_jax.record import writer
from mnist_jax.tracking import values


def read(folder: Path, keep: untrusted.Keep, allow_outside: bool = False) -> untrusted.Found:
    """Return the run in a Neptune folder.

    Args:
      keep: keeps the bytes of a file and returns their address.
      allow_outside: read files that the log names by an absolute path, where they still are.

    Raises:
      UserError: the folder cannot be read.
    """
    account, budget = untrusted.Account(), untrusted.Budget(folder)
    log = convert_log.read(folder, account, budget)
    reader = attributes.AttributeReader(log, keep, account, budget, allow_outside)
    ours = untrusted.is_run_id(reader.scalar(log.whole, "run/id"))
    marked = ours and log.marks and not log.destructive
    found = list(_marked(reader)) if marked else _unmarked(reader, ours)
    if ours:
        status = reader.scalar(log.whole, "run/final_status")
    else:
        status = None if log.torn else "failed" if reader.scalar(log.whole, "sys/failed") is True else "finished"
    source = f"a Neptune 1.x folder, {folder.name} (run {log.container})"
    return untrusted.Found(source, _our_run(reader) if ours else _their_run(reader), found,
                         status if status in events.STATUSES else None, account)


def _our_run(reader: attributes.AttributeReader) -> events.RunInfo:
    held = reader.under(reader.log.whole, "run/")
    about = reader.under(reader.log.whole, "sys/")
    config, command, tags = held.get("config"), held.get("command"), held.get("tags")
    created, steps_per_epoch = held.get("created"), held.get("steps_per_epoch")
    try:
        words = tuple(shlex.split(command)) if isinstance(command, str) else ()
    except ValueError:
        words = (str(command),)
    return events.RunInfo(
        held["id"], str(held.get("name") or ""), untrusted.seconds(created) or reader.log.created,
        config if isinstance(config, dict) else {}, words, held["parent"] if isinstance(held.get("parent"), str) else None,
        tuple(map(str, tags if isinstance(tags, list) else about.get("tags") or ())), str(about.get("description") or ""),
        steps_per_epoch if isinstance(steps_per_epoch, int) and steps_per_epoch > 0 else None)


def _their_run(reader: attributes.AttributeReader) -> events.RunInfo:
    about = {name: held.value for name in ("name", "tags", "description")
             if (held := reader.log.whole.get(f"sys/{name}")) and held.kind in ("string", "string_set")}
    tags = about.get("tags")
    return events.RunInfo(writer.new_id(), str(about.get("name") or reader.log.folder.name), reader.log.created, {}, (),
                      tags=tuple(tags) if isinstance(tags, list) else (), description=str(about.get("description") or ""))


def _marked(reader: attributes.AttributeReader) -> Iterator[events.Event]:
    marks = reader.log.marks
    for number, piece in enumerate(reader.log.pieces[:-1]):
        if number == 0:
            continue  # who the run is
        state = {path: held for path, held in piece.items() if path not in ("run/events", "run/event_sha256")}
        about = ", ".join(list(state)[:3]) or f"event {number}"
        if number in reader.log.broken:
            reader.account.skip("events of which operations are missing", about)
            continue
        if marks[number] == marks[number - 1]:
            reader.account.skip("events that Neptune had refused", about)
            continue
        try:
            event = untrusted.one([event for _, event in convert_ours.read(reader, state)])
        except convert_ours.NOT_READ as error:
            reader.account.skip(f"events that could not be read ({error})", about)
            continue
        sealed = piece.get("run/event_sha256")  # folders of before have none
        if sealed is not None and sealed.value != values.seal(event):
            reader.account.skip("damaged events: another digest than the one beside them", about)
            continue
        yield event
    rest = [path for path in reader.log.pieces[-1] if path not in ("run/final_status", "sys/failed")]
    if rest:
        reader.account.skip("events cut off at the end", ", ".join(rest[:3]))


def _unmarked(reader: attributes.AttributeReader, ours: bool) -> list[events.Event]:
    state = dict(reader.log.whole)
    order = {path: number for number, path in enumerate(state)}
    found: list[tuple[str, events.Event]] = []
    if ours:
        reader.account.change("events without marks: what one event said may be several, or the other way round",
                            reader.log.folder.name)
        try:
            found = list(convert_ours.read(reader, state))
        except convert_ours.NOT_READ as error:
            reader.account.change(f"facts that are not as our tracker writes them, mapped as any program's ({error})", "")
            state, found = dict(reader.log.whole), []
    found += others.read(reader, state)
    found.sort(key=lambda pair: order.get(pair[0], len(order)))
    return [event for _, event in found]
