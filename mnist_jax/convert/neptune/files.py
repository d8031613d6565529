"""Reads a Neptune 1.x offline folder into events: those of our tracker exactly, any other as the nearest kind.

Our tracker marks the end of every event in the log (`run/events`), so the operations between two marks are one event.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path

from mnist_jax import events
from mnist_jax.convert import untrusted
from mnist_jax.convert.neptune import attributes, others, ours
from mnist_jax.convert.neptune import log as neptune_log
from mnist_jax.record import writer
from mnist_jax.tracking import values


def read(folder: Path, write_blob: untrusted.WriteBlob, allow_outside: bool = False) -> untrusted.ForeignRun:
    """Return the run in a Neptune folder.

    Args:
      write_blob: writes the bytes of a file and returns their address.
      allow_outside: read files that the log names by an absolute path, where they still are.

    Raises:
      UserError: the folder cannot be read.
    """
    account, budget = untrusted.Account(), untrusted.Budget(folder)
    log = neptune_log.read(folder, account, budget)
    reader = attributes.AttributeReader(log, write_blob, account, budget, allow_outside)
    is_ours = untrusted.is_run_id(reader.scalar(log.whole, "run/id"))
    has_marks = is_ours and log.marks and not log.destructive
    facts = list(_marked(reader)) if has_marks else _unmarked(reader, is_ours)
    if is_ours:
        status = reader.scalar(log.whole, "run/final_status")
    else:
        status = None if log.torn else "failed" if reader.scalar(log.whole, "sys/failed") is True else "finished"
    source = f"the Neptune 1.x folder {folder.name} (run {log.container})"
    return untrusted.ForeignRun(source, _our_run(reader) if is_ours else _their_run(reader), facts,
                                status if status in events.STATUSES else None, account)


def _our_run(reader: attributes.AttributeReader) -> events.RunInfo:
    fields = reader.under(reader.log.whole, "run/")
    about = reader.under(reader.log.whole, "sys/")
    config, command, tags = fields.get("config"), fields.get("command"), fields.get("tags")
    created, steps_per_epoch = fields.get("created"), fields.get("steps_per_epoch")
    try:
        arguments = tuple(shlex.split(command)) if isinstance(command, str) else ()
    except ValueError:
        arguments = (str(command),)
    return events.RunInfo(
        fields["id"], str(fields.get("name") or ""), untrusted.seconds(created) or reader.log.created,
        config if isinstance(config, dict) else {}, arguments,
        fields["parent"] if isinstance(fields.get("parent"), str) else None,
        tuple(map(str, tags if isinstance(tags, list) else about.get("tags") or ())), str(about.get("description") or ""),
        steps_per_epoch if isinstance(steps_per_epoch, int) and steps_per_epoch > 0 else None)


def _their_run(reader: attributes.AttributeReader) -> events.RunInfo:
    about = {name: attribute.value for name in ("name", "tags", "description")
             if (attribute := reader.log.whole.get(f"sys/{name}")) and attribute.kind in ("string", "string_set")}
    tags = about.get("tags")
    return events.RunInfo(writer.new_id(), str(about.get("name") or reader.log.folder.name), reader.log.created, {}, (),
                          tags=tuple(tags) if isinstance(tags, list) else (), description=str(about.get("description") or ""))


def _marked(reader: attributes.AttributeReader) -> Iterator[events.Event]:
    marks = reader.log.marks
    for number, piece in enumerate(reader.log.pieces[:-1]):
        if number == 0:
            continue  # the identity of the run
        state = {path: attribute for path, attribute in piece.items() if path not in ("run/events", "run/event_sha256")}
        about = ", ".join(list(state)[:3]) or f"event {number}"
        if number in reader.log.broken:
            reader.account.skip("events of which operations are missing", about)
            continue
        if marks[number] == marks[number - 1]:
            reader.account.skip("events that Neptune had refused", about)
            continue
        try:
            event = untrusted.only([event for _, event in ours.read(reader, state)])
        except ours.READ_ERRORS as error:
            reader.account.skip(f"events that could not be read ({error})", about)
            continue
        seal = piece.get("run/event_sha256")  # older folders have none
        if seal is not None and seal.value != values.seal(event):
            reader.account.skip("damaged events, which do not match their digest", about)
            continue
        yield event
    rest = [path for path in reader.log.pieces[-1] if path not in ("run/final_status", "sys/failed")]
    if rest:
        reader.account.skip("incomplete events at the end", ", ".join(rest[:3]))


def _unmarked(reader: attributes.AttributeReader, is_ours: bool) -> list[events.Event]:
    state = dict(reader.log.whole)
    order = {path: number for number, path in enumerate(state)}
    pairs: list[tuple[str, events.Event]] = []
    if is_ours:
        reader.account.change("events without marks: one event may have become several, or several one",
                              reader.log.folder.name)
        try:
            pairs = list(ours.read(reader, state))
        except ours.READ_ERRORS as error:
            reader.account.change(f"attributes that our tracker does not write, converted as any program's ({error})", "")
            state, pairs = dict(reader.log.whole), []
    pairs += others.read(reader, state)
    pairs.sort(key=lambda pair: order.get(pair[0], len(order)))
    return [event for _, event in pairs]
