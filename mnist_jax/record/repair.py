"""Writes a clean run from what is whole of a damaged one, which is left as it is."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from mnist_jax import errors, events
from mnist_jax.record import blobs, reader, run_file, writer


@dataclasses.dataclass(frozen=True)
class Repair:
    """What was saved of a damaged run."""

    directory: Path  # of the clean run
    events: int  # saved
    sealed: int | None  # events that the run had when it ended; None where it did not end
    lost_files: tuple[str, ...]  # whose bytes are missing or damaged


def repair(directory: Path | str, workdir: Path | str) -> Repair:
    """Write a new run with the events before the damage and the files whose bytes match their digests.

    Raises:
      UserError: there is no run, its run.json is damaged, or the new directory is taken.
      RecordError: the new run cannot be written.
    """
    record, fields, lost = reader.read(directory, salvage=True), run_file.read(Path(directory)), []
    sealed = fields["events"]["count"] if fields.get("events") else None
    with writer.create(Path(workdir).absolute(), record.run) as run_writer:
        for entry in record.entries:
            for blob in events.blobs(entry.event):
                try:
                    run_writer.blob(blobs.read(record.directory, blob), blob.name)
                except errors.RecordError:
                    lost.append(blob.name)
            run_writer.append(entry.event)
        said = f"{record.count} events" + (f" of {sealed}" if sealed else "") + f" saved from {Path(directory).absolute()}"
        run_writer.append(events.Text("repaired", record.steps, said))
        run_writer.close(fields["status"] if fields["status"] in events.STATUSES else "interrupted")
    return Repair(Path(workdir), record.count, sealed, tuple(lost))
