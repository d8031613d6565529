"""The command line of recorded runs: show, deliver, import, export. Training is `run.py`, which takes the config flags."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from mnist_jax import __version__, background, errors, parquet, record, show, tracking
from mnist_jax.importing import run as importing


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code: 0 done, 1 failed, 2 the user's mistake."""
    parser = argparse.ArgumentParser(prog="mnist-jax", description=__doc__,
                                     epilog="example: mnist-jax show runs/20260101-120000-cnn-digits --json")
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    shown = commands.add_parser("show", help="what a run is and reached")
    shown.add_argument("run", type=Path, help="a run's directory")
    shown.add_argument("--json", action="store_true", help="print one JSON object")
    shown.set_defaults(call=_show)

    delivered = commands.add_parser("deliver", help="send what a tracker is missing")
    delivered.add_argument("run", type=Path, help="a run's directory")
    delivered.add_argument("--tracker", required=True, help=f"some of {', '.join(tracking.BACKENDS)}, comma-separated")
    delivered.add_argument("--tracker_mode", default="auto", help=f"one of {', '.join(tracking.MODES)}")
    delivered.add_argument("--follow", action="store_true", help=argparse.SUPPRESS)  # as a run's child process
    delivered.set_defaults(call=_deliver)

    imported = commands.add_parser("import", help="make a record of a Neptune 1.x offline folder or a Comet 3.x archive",
                                   epilog="example: mnist-jax import .neptune/offline/run__1234 --workdir=runs/old")
    imported.add_argument("path", type=Path, help="the folder or archive, whoever wrote it, or a folder that holds one")
    imported.add_argument("--workdir", type=Path, required=True, help="the new run's directory")
    imported.add_argument("--allow_outside", action="store_true",
                          help="read files that the source names by an absolute path, where they still are")
    imported.set_defaults(call=_import)

    exported = commands.add_parser("export", help="write a run for other trackers' loaders",
                                   epilog="example: mnist-jax export runs/20260101-120000-cnn-digits --parquet=exported")
    exported.add_argument("run", type=Path, help="a run's directory")
    exported.add_argument("--parquet", type=Path, required=True, metavar="DIR",
                          help="the folder for parquet in neptune-exporter's schema, and the files beside it")
    exported.set_defaults(call=_export)

    parsed = parser.parse_args(arguments)
    try:
        return parsed.call(parsed)
    except errors.UserError as error:
        print(f"mnist-jax: {error}", file=sys.stderr)
        return 2
    except errors.RecordError as error:
        print(f"mnist-jax: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        return 0  # the reader, such as head, has seen enough
    except KeyboardInterrupt:
        return 130
    except OSError as error:
        print(f"mnist-jax: {error}; make room or restore access", file=sys.stderr)
        return 2


def _show(parsed: argparse.Namespace) -> int:
    facts = show.summary(parsed.run)
    print(json.dumps(facts, indent=1) if parsed.json else show.text(facts))
    return 0


def _deliver(parsed: argparse.Namespace) -> int:
    recorded = record.read(parsed.run)
    if parsed.follow:
        (destination,) = tracking.destinations(parsed.tracker, parsed.tracker_mode)
        background.child_main(parsed.run, destination)
    complete = True
    for replica in background.deliver(parsed.run, parsed.tracker, parsed.tracker_mode):
        state = replica.summary(len(recorded.entries))
        print(f"{replica.label}: {show.delivered(state)}")
        complete &= state["state"] == "complete" and not state["failed"]
    return 0 if complete else 1


def _import(parsed: argparse.Namespace) -> int:
    imported = importing.import_run(parsed.path, parsed.workdir, allow_outside=parsed.allow_outside)
    print(f"{imported.run.name or imported.run.id}: {imported.outcome}, {imported.events} events")
    for word, lines in (("skipped", imported.skipped), ("changed", imported.lost)):
        for line in lines:
            print(show.printable(f"{word}: {line}"))
    print(imported.directory)
    return 0


def _export(parsed: argparse.Namespace) -> int:
    for path in parquet.export(parsed.run, parsed.parquet):
        print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
