"""Experiments: trained, recorded, tracked, reproduced and traced."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from mnist_jax import __version__, errors, secrets
from mnist_jax.cli import registry
from mnist_jax.convert import importer, parquet
from mnist_jax.record import catalog, reader
from mnist_jax.registry import store
from mnist_jax.tracking import protocol, sync
from mnist_jax.view import report
from mnist_jax.view import text as view

_RUN = "a run's directory, or the beginning of the name or id of one in ./runs"


def parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    parser = argparse.ArgumentParser(prog="mnist-jax", description=__doc__,
                                     epilog="example: mnist-jax show runs/20260101-120000-cnn-digits --json")
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    commands.add_parser("train", add_help=False, help="train a config, or every run of a sweep (train --help: its flags)")

    listed = commands.add_parser("list", help="the runs in a folder, and what became of them", epilog="example: mnist-jax list")
    listed.add_argument("folder", type=Path, nargs="?", default=catalog.DEFAULT, help="by default ./runs")
    listed.add_argument("--json", action="store_true", help="print one JSON array")
    listed.set_defaults(call=_list)

    shown = commands.add_parser("show", help="what a run is and reached", epilog="example: mnist-jax show 20260101-12 --json")
    shown.add_argument("run", help=_RUN)
    shown.add_argument("--json", action="store_true", help="print one JSON object")
    shown.set_defaults(call=_show)

    reported = commands.add_parser("report", help="runs side by side, as one HTML file that needs nothing else",
                                   epilog="example: mnist-jax report runs/20260101-* --html=report.html")
    reported.add_argument("runs", nargs="+", metavar="RUN", help=_RUN)
    reported.add_argument("--html", type=Path, default=Path("report.html"), help="the file, by default report.html")
    reported.set_defaults(call=_report)

    compared = commands.add_parser("compare-trackers", help="Neptune and Comet on nine criteria, by what their clients do here",
                                   epilog="example: mnist-jax compare-trackers runs/20260101-120000-cnn-digits "
                                          "--html=compare.html")
    compared.add_argument("run", nargs="?", help=f"add what each tracker holds of it: {_RUN}")
    compared.add_argument("--html", type=Path, help="write the whole, with its evidence, to this file")
    compared.add_argument("--evidence", type=Path, metavar="DIR",
                          help="keep the evidence there; where it lies there already, read it instead of probing again")
    compared.add_argument("--json", action="store_true", help="print one JSON object")
    compared.set_defaults(call=_compare_trackers)

    synced = commands.add_parser("sync", help="send what a tracker is missing",
                                 epilog="example: mnist-jax sync runs/20260101-120000-cnn-digits --tracker=comet")
    synced.add_argument("run", help=_RUN)
    synced.add_argument("--tracker", required=True, help=f"some of {', '.join(protocol.BACKENDS)}, comma-separated")
    synced.add_argument("--tracker_mode", default="auto", help=f"one of {', '.join(protocol.MODES)}")
    synced.set_defaults(call=_sync)

    imported = commands.add_parser("import", help="make a record of a Neptune 1.x offline folder or a Comet 3.x archive",
                                   epilog="example: mnist-jax import .neptune/offline/run__1234 --workdir=runs/old")
    imported.add_argument("path", type=Path, help="the folder or archive, whoever wrote it, or a folder that holds one")
    imported.add_argument("--workdir", type=Path, required=True, help="the new run's directory")
    imported.add_argument("--allow_outside", action="store_true",
                          help="read files that the source names by an absolute path, where they still are")
    imported.set_defaults(call=_import)

    exported = commands.add_parser("export", help="write a run for other trackers' loaders",
                                   epilog="example: mnist-jax export runs/20260101-120000-cnn-digits --parquet=exported")
    exported.add_argument("run", help=_RUN)
    exported.add_argument("--parquet", type=Path, required=True, metavar="DIR",
                          help="the folder for parquet in neptune-exporter's schema, and the files beside it")
    exported.set_defaults(call=_export)

    reproduced = commands.add_parser("reproduce", help="train a run again and say whether it is the same, bit for bit",
                                     epilog="example: mnist-jax reproduce runs/20260101-120000-cnn-digits --steps=100")
    reproduced.add_argument("run", help=_RUN)
    reproduced.add_argument("--steps", type=_positive, help="compare only so many updates")
    reproduced.add_argument("--tolerance", type=float, default=0.0, help="claim values within so much, instead of equal bits")
    reproduced.add_argument("--workdir", type=Path, help="the new run's directory; by default runs/<time>-<name>-again")
    reproduced.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="changes",
                            help="a setting to change, to see where the run diverges; again for more")
    reproduced.add_argument("--json", action="store_true", help="print one JSON object")
    reproduced.set_defaults(call=_reproduce)

    registry.add(commands, _RUN)

    predicted = commands.add_parser("predict", help="ask a model what digits pictures show",
                                    epilog="example: mnist-jax predict digits@production three.png photo.jpg")
    predicted.add_argument("model", help="NAME@VERSION or NAME@ALIAS of the registry, a model file, or a run's directory")
    predicted.add_argument("images", nargs="+", metavar="IMAGE", help="picture files: grey or colour, of any size")
    predicted.add_argument("--registry", type=Path, default=store.DEFAULT, help="by default ./registry")
    predicted.add_argument("--json", action="store_true", help="print one JSON object, with the probability of each class")
    predicted.set_defaults(call=_predict)

    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code: 0 done, 1 failed, 2 the user's mistake."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    if arguments[:1] == ["train"]:  # its flags are absl's, since a config has as many of them as it has settings
        from mnist_jax.cli import train

        train.run_as_program([sys.argv[0], *arguments[1:]])
    parsed = parser().parse_args(arguments)
    try:
        if getattr(parsed, "run", None) is not None:
            parsed.run = catalog.find(parsed.run)
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


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected an integer of 1 or more, found {text!r}")
    return int(text)


def _list(parsed: argparse.Namespace) -> int:
    rows = catalog.list_runs(parsed.folder)
    print(json.dumps(rows, indent=1) if parsed.json else secrets.printable_lines(catalog.table(rows) or ["no runs yet"]))
    return 0


def _report(parsed: argparse.Namespace) -> int:
    print(report.write_report([catalog.find(name) for name in parsed.runs], parsed.html))
    return 0


def _compare_trackers(parsed: argparse.Namespace) -> int:
    from mnist_jax.compare import comparison, page
    from mnist_jax.compare import text as comparison_text

    compared = comparison.compare_trackers(parsed.evidence, parsed.run)
    if parsed.html:
        page.write_comparison(compared, parsed.html)
    print(json.dumps(comparison.as_json(compared), indent=1) if parsed.json
          else secrets.printable_lines(list(comparison_text.lines(compared))))
    if parsed.html and not parsed.json:
        print(parsed.html)
    for problem in compared.problems:
        print(f"mnist-jax: {problem}; what rests on it is not shown", file=sys.stderr)
    return 1 if compared.problems else 0


def _show(parsed: argparse.Namespace) -> int:
    facts = view.summary(parsed.run)
    print(json.dumps(facts, indent=1) if parsed.json else view.text(facts))
    return 0


def _sync(parsed: argparse.Namespace) -> int:
    complete, recorded = True, len(reader.read(parsed.run).entries)
    for status in sync.sync(parsed.run, parsed.tracker, parsed.tracker_mode):
        state = status.summary(recorded)
        print(f"{status.label}: {view.sync_line(state)}")
        complete &= state["state"] == "complete" and not state["failed"]
    return 0 if complete else 1


def _import(parsed: argparse.Namespace) -> int:
    imported = importer.import_run(parsed.path, parsed.workdir, allow_outside=parsed.allow_outside)
    print(f"{imported.run.name or imported.run.id}: {imported.status}, {imported.events} events")
    for word, lines in (("skipped", imported.skipped), ("changed", imported.changed)):
        for line in lines:
            print(secrets.printable(f"{word}: {line}"))
    print(imported.directory)
    return 0


def _export(parsed: argparse.Namespace) -> int:
    for path in parquet.export_parquet(parsed.run, parsed.parquet):
        print(path)
    return 0


def _reproduce(parsed: argparse.Namespace) -> int:
    from mnist_jax.train import reproduce

    verdict = reproduce.reproduce_run(parsed.run, steps=parsed.steps, tolerance=parsed.tolerance, workdir=parsed.workdir,
                                  changes=parsed.changes)
    print(json.dumps(dataclasses.asdict(verdict), indent=1, default=str) if parsed.json
          else secrets.printable_lines([*verdict.lines(), str(verdict.directory)]))
    return 0 if verdict.holds else 1


def _predict(parsed: argparse.Namespace) -> int:
    from mnist_jax.registry import predict

    predictions = predict.predict_images(predict.load_model(parsed.model, parsed.registry), parsed.images)
    if parsed.json:
        print(json.dumps([dataclasses.asdict(each) for each in predictions], indent=1))
    else:
        print(secrets.printable_lines([f"{each.path}: {each.label}  {max(each.probabilities):.1%}  ({each.model})"
                                    for each in predictions]))
    return 0
