"""Experiments: trained, recorded, tracked, reproduced and traced."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from mnist_jax import __version__, cli, secrets
from mnist_jax.cli import registry
from mnist_jax.convert import importer, parquet
from mnist_jax.record import catalog, reader, repair
from mnist_jax.registry import store
from mnist_jax.tracking import protocol, sync
from mnist_jax.view import report, text

_RUN = "a run's directory, or the beginning of the name or id of one in ./runs"


def parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    parser = _Parser(prog="mnist-jax", description=__doc__,
                     epilog="example: mnist-jax show runs/20260101-120000-cnn-digits --json")
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    commands.add_parser("train", add_help=False, help="train a config, or every run of a sweep (train --help: its flags)")

    list_parser = commands.add_parser("list", help="the runs in a folder, and their status", epilog="example: mnist-jax list")
    list_parser.add_argument("folder", type=Path, nargs="?", default=catalog.DEFAULT, help="by default ./runs")
    list_parser.add_argument("--json", action="store_true", help="print one JSON array")
    list_parser.set_defaults(call=_list)

    show_parser = commands.add_parser("show", help="a run and its results", epilog="example: mnist-jax show 20260101-12 --json")
    show_parser.add_argument("run", help=_RUN)
    show_parser.add_argument("--json", action="store_true", help="print one JSON object")
    show_parser.add_argument("--salvage", action="store_true", help="read a damaged run up to the damage")
    show_parser.set_defaults(call=_show)

    repair_parser = commands.add_parser("repair", help="write a clean run from what is whole of a damaged one",
                                        epilog="example: mnist-jax repair runs/damaged --workdir=runs/saved")
    repair_parser.add_argument("run", help=_RUN)
    repair_parser.add_argument("--workdir", type=Path, required=True, help="the new run's directory")
    repair_parser.set_defaults(call=_repair)

    report_parser = commands.add_parser("report", help="runs side by side, as one HTML file that works offline",
                                        epilog="example: mnist-jax report runs/20260101-* --html=report.html")
    report_parser.add_argument("runs", nargs="+", metavar="RUN", help=_RUN)
    report_parser.add_argument("--html", type=Path, default=Path("report.html"), help="the file, by default report.html")
    report_parser.set_defaults(call=_report)

    compare_parser = commands.add_parser("compare-trackers",
                                         help="Neptune and Comet on nine criteria, by what their clients do on this machine",
                                         epilog="example: mnist-jax compare-trackers runs/20260101-120000-cnn-digits "
                                                "--html=compare.html")
    compare_parser.add_argument("run", nargs="?", help=f"add what each tracker holds of it: {_RUN}")
    compare_parser.add_argument("--html", type=Path, help="write the comparison, with its evidence, to this file")
    compare_parser.add_argument("--evidence", type=Path, metavar="DIR",
                                help="the folder of the evidence; if it holds some, it is read and no client is probed")
    compare_parser.add_argument("--json", action="store_true", help="print one JSON object")
    compare_parser.set_defaults(call=_compare_trackers)

    sync_parser = commands.add_parser("sync", help="send a tracker the events that it is missing",
                                      epilog="example: mnist-jax sync runs/20260101-120000-cnn-digits --tracker=comet")
    sync_parser.add_argument("run", help=_RUN)
    sync_parser.add_argument("--tracker", required=True, help=f"some of {', '.join(protocol.BACKENDS)}, comma-separated")
    sync_parser.add_argument("--tracker_mode", default="auto", help=f"one of {', '.join(protocol.MODES)}")
    sync_parser.set_defaults(call=_sync)

    import_parser = commands.add_parser("import", help="import a Neptune 1.x offline folder or a Comet 3.x archive as a record",
                                        epilog="example: mnist-jax import .neptune/offline/run__1234 --workdir=runs/old")
    import_parser.add_argument("path", type=Path, help="the folder or archive of any program, or a folder that holds one")
    import_parser.add_argument("--workdir", type=Path, required=True, help="the new run's directory")
    import_parser.add_argument("--allow_outside", action="store_true",
                               help="read files that the source names by an absolute path, where they still are")
    import_parser.set_defaults(call=_import)

    export_parser = commands.add_parser("export", help="write a run as parquet, for the loaders of other trackers",
                                        epilog="example: mnist-jax export runs/20260101-120000-cnn-digits --parquet=exported")
    export_parser.add_argument("run", help=_RUN)
    export_parser.add_argument("--parquet", type=Path, required=True, metavar="DIR",
                               help="the folder for parquet in neptune-exporter's schema, and the files beside it")
    export_parser.set_defaults(call=_export)

    reproduce_parser = commands.add_parser("reproduce", help="train a run again and compare it, bit for bit",
                                           epilog="example: mnist-jax reproduce runs/20260101-120000-cnn-digits --steps=100")
    reproduce_parser.add_argument("run", help=_RUN)
    reproduce_parser.add_argument("--steps", type=_positive, help="compare only so many updates")
    reproduce_parser.add_argument("--tolerance", type=float, default=0.0,
                                  help="accept values that differ by at most so much, instead of equal bits")
    reproduce_parser.add_argument("--workdir", type=Path, help="the new run's directory; by default runs/<time>-<name>-again")
    reproduce_parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="changes",
                                  help="a setting to change, to see where the run diverges; again for more")
    reproduce_parser.add_argument("--json", action="store_true", help="print one JSON object")
    reproduce_parser.set_defaults(call=_reproduce)

    registry.add(commands, _RUN)

    predict_parser = commands.add_parser("predict", help="predict the digits in pictures",
                                         epilog="example: mnist-jax predict digits@production three.png photo.jpg")
    predict_parser.add_argument("model", help="NAME@VERSION or NAME@ALIAS of the registry, a model file, or a run's directory")
    predict_parser.add_argument("images", nargs="+", metavar="IMAGE", help="picture files: grey or colour, of any size")
    predict_parser.add_argument("--registry", type=Path, default=store.DEFAULT, help="by default ./registry")
    predict_parser.add_argument("--json", action="store_true", help="print one JSON object, with the probability of each class")
    predict_parser.set_defaults(call=_predict)

    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code: 0 done, 1 failed, 2 a mistake in the arguments."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    if arguments[:1] == ["train"]:  # its flags are absl's: one for each setting of the config
        from mnist_jax.cli import train

        train.run_as_program([sys.argv[0], *arguments[1:]])
    return cli.exit_code("mnist-jax", lambda: _call(arguments))


def _call(arguments: Sequence[str]) -> int:
    parsed = parser().parse_args(arguments)
    if getattr(parsed, "run", None) is not None:
        parsed.run = catalog.find(parsed.run)
    return parsed.call(parsed)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        for line in [*self.format_usage().splitlines(), f"{self.prog}: error: {message}"]:
            secrets.warn(line)
        sys.exit(2)


def _positive(value: str) -> int:
    if not value.isdigit() or int(value) < 1:
        raise argparse.ArgumentTypeError(f"expected an integer of 1 or more, found {value!r}")
    return int(value)


def _list(parsed: argparse.Namespace) -> int:
    rows = catalog.list_runs(parsed.folder)
    cli.say(text.json_text(rows) if parsed.json else "\n".join(catalog.table(rows) or ["no runs yet"]))
    return 0


def _report(parsed: argparse.Namespace) -> int:
    cli.say(str(report.write_report([catalog.find(name) for name in parsed.runs], parsed.html)))
    return 0


def _compare_trackers(parsed: argparse.Namespace) -> int:
    from mnist_jax.compare import comparison, page
    from mnist_jax.compare import text as comparison_text

    result = comparison.compare_trackers(parsed.evidence, parsed.run)
    if parsed.html:
        page.write_comparison(result, parsed.html)
    cli.say(text.json_text(comparison.as_json(result)) if parsed.json else "\n".join(comparison_text.lines(result)))
    if parsed.html and not parsed.json:
        cli.say(str(parsed.html))
    for problem in result.problems:
        secrets.warn(f"mnist-jax: {problem}; results that depend on it are not shown")
    return 1 if result.problems else 0


def _show(parsed: argparse.Namespace) -> int:
    facts = text.summary(parsed.run, parsed.salvage)
    cli.say(text.json_text(facts) if parsed.json else text.text(facts))
    return 0


def _repair(parsed: argparse.Namespace) -> int:
    saved = repair.repair(parsed.run, parsed.workdir)
    counts = f"{saved.events} events{f' of {saved.sealed}' if saved.sealed else ''}, {len(saved.lost_files)} files lost"
    cli.say("\n".join([counts, *(f"lost: {name}" for name in saved.lost_files), str(saved.directory)]))
    return 0


def _sync(parsed: argparse.Namespace) -> int:
    complete, event_count = True, len(reader.read(parsed.run).entries)
    for status in sync.sync(parsed.run, parsed.tracker, parsed.tracker_mode):
        state = status.summary(event_count)
        cli.say(secrets.printable(f"{status.label}: {text.sync_line(state)}"))
        complete &= state["state"] == "complete" and not state["failed"]
    return 0 if complete else 1


def _import(parsed: argparse.Namespace) -> int:
    result = importer.import_run(parsed.path, parsed.workdir, allow_outside=parsed.allow_outside)
    name = secrets.printable(result.run.name or result.run.id, 500)
    cli.say(f"{name}: {result.status}, {result.event_count} events")
    for word, lines in (("skipped", result.skipped), ("changed", result.changed)):
        for line in lines:
            cli.say(secrets.printable(f"{word}: {line}"))
    cli.say(str(result.directory))
    return 0


def _export(parsed: argparse.Namespace) -> int:
    for path in parquet.export_parquet(parsed.run, parsed.parquet):
        cli.say(str(path))
    return 0


def _reproduce(parsed: argparse.Namespace) -> int:
    from mnist_jax.train import reproduce

    verdict = reproduce.reproduce_run(parsed.run, steps=parsed.steps, tolerance=parsed.tolerance, workdir=parsed.workdir,
                                      changes=parsed.changes)
    cli.say(text.json_text(dataclasses.asdict(verdict)) if parsed.json
            else "\n".join([*verdict.lines(), str(verdict.directory)]))
    return 0 if verdict.holds else 1


def _predict(parsed: argparse.Namespace) -> int:
    from mnist_jax.registry import predict

    predictions = predict.predict_images(predict.load_model(parsed.model, parsed.registry), parsed.images)
    if parsed.json:
        cli.say(text.json_text([dataclasses.asdict(each) for each in predictions]))
    else:
        cli.say("\n".join(secrets.printable(f"{each.path}: {each.label}  {max(each.probabilities):.1%}  ({each.model})")
                          for each in predictions))
    return 0
