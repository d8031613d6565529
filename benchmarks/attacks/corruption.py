"""One flipped bit or a cut in every kind of file: it is named, or means nothing; never a wrong result, a traceback, a hang."""

from __future__ import annotations

import functools
import gzip
import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.attacks import world
from benchmarks.attacks.world import Attack, World
from mnist_jax import errors, events
from mnist_jax.convert import importer
from mnist_jax.data import sources, splits
from mnist_jax.record import checkpoint, reader
from tests.helpers import datasets, killed_runs


def recorded(around: World, chance: random.Random, folder: Path) -> str:
    """run.json or events.jsonl: `show` names the damage, or says what it said before."""
    directory = around.copy(folder)
    done = world.damage(directory / chance.choice(("run.json", "events.jsonl")), chance)
    told = world.command("show", directory, "--json")
    if problem := told.fault((0, 1, 2)):
        return f"{done}: {problem}"
    if told.code:
        return ""
    # A last line that a cut has torn is that of a crash: what is before it is the record, and the status says so.
    facts, whole = world.shown(directory), world.shown(around.whole)
    shorter = facts["events"] < whole["events"] and facts["status"] != "finished"
    return "" if facts == whole or shorter else f"{done}: show says something else"


def blob(around: World, chance: random.Random, folder: Path) -> str:
    """A picture, a model, a table: `report` and `predict` name it."""
    directory = around.copy(folder)
    record = reader.read(directory)
    kind, command = chance.choice((
        (events.Image, ("report", directory, f"--html={folder / 'report.html'}")),
        (events.Artifact, ("report", directory, f"--html={folder / 'report.html'}")),
        (events.Model, ("predict", directory, _picture(folder)))))
    blobs = [fact.blob for fact in record.of(kind) if getattr(fact, "name", "") not in ("learning_curves", "confusion_matrix")]
    done = world.damage(directory / "blobs" / chance.choice(blobs).sha256, chance)
    told = world.command(*command)
    return f"{done}: {told.fault((1, 2)) or ''}" if told.fault((1, 2)) else ""


def checkpoints(around: World, chance: random.Random, folder: Path) -> str:
    """A checkpoint: it is named and the one before it used, or none is."""
    directory = around.copy(folder)
    files = sorted((directory / "checkpoints").iterdir())
    whole, _ = checkpoint.newest(directory)
    done = world.damage(chance.choice(files), chance)
    newest, damaged = checkpoint.newest(directory)
    assert whole is not None
    if newest is None or newest.step < whole.step:
        return "" if damaged else f"{done}: an older state, and nothing was said"
    same = all(array.tobytes() == whole.arrays[path].tobytes() for path, array in newest.arrays.items())
    return "" if same else f"{done}: another state"


def cache(around: World, chance: random.Random, folder: Path) -> str:
    """The cache of decoded arrays: it is made again."""
    with _cache(folder / "cache"):
        before = _load(_idx(around))
        (cached,) = (folder / "cache").glob("*.npz")
        done = world.damage(cached, chance)
        after = _load(_idx(around))
    return "" if before.train.digest == after.train.digest and before.test.digest == after.test.digest else done


def idx_files(around: World, chance: random.Random, folder: Path) -> str:
    """IDX files, plain and gzipped: the damage is named, or the digest, which every run records, is another."""
    copied = Path(shutil.copytree(_idx(around), folder / "idx"))
    path = chance.choice(sorted(copied.iterdir()))
    if chance.random() < 0.5:
        packed = path.with_name(path.name + ".gz")
        packed.write_bytes(gzip.compress(path.read_bytes(), mtime=0))
        path.unlink()
        path = packed
    done = world.damage(path, chance)
    before, after = _load(_idx(around)), _loaded(copied, folder / "cache")
    if after is None:
        return ""
    pairs = [(getattr(before, split), getattr(after, split)) for split in ("train", "test")]
    same = [one.images.tobytes() == other.images.tobytes() and one.labels.tobytes() == other.labels.tobytes()
            for one, other in pairs]
    digests = [one.digest == other.digest for one, other in pairs]
    return "" if same == digests else f"{done}: other data under the same digest"


def prepared_files(around: World, chance: random.Random, folder: Path) -> str:
    """A data set as TFDS prepares it in array_record files: the damage is named, or the data are the same."""
    copied = Path(shutil.copytree(_prepared(around), folder / "tfds"))
    done = world.damage(chance.choice(sorted(path for path in copied.rglob("*") if path.is_file())), chance)
    before, after = _load(_prepared(around)), _loaded(copied, folder / "cache")
    if after is None:
        return ""
    same = before.train.digest == after.train.digest and before.test.digest == after.test.digest
    return "" if same else f"{done}: other data, and nothing was said"


def compiled(around: World, chance: random.Random, folder: Path) -> str:
    """The cache of compiled programs: a run ends as it does without."""
    short = (*world.CONFIG, "--config.epochs=2")
    whole = _trained(around, short)
    shutil.copytree(around.folder / "compiled", folder / "cache")
    done = world.damage(chance.choice(sorted((folder / "cache" / "compiled").iterdir())), chance)
    ended = world.shell("run.py", *short, f"--workdir={folder / 'run'}", environment={"MNIST_JAX_CACHE": str(folder / "cache")})
    if problem := ended.fault((0,)):
        return f"{done}: {problem}"
    return "" if killed_runs.facts_of(folder / "run") == killed_runs.facts_of(whole) else f"{done}: other bits"


def replica(tracker: str, around: World, chance: random.Random, folder: Path) -> str:
    """An offline replica of ours: `import` names the damage, or gives the same events."""
    source = Path(shutil.copytree(around.whole / "sync" / f"{tracker}-offline", folder / "left"))
    files = [path for path in source.rglob("*") if path.is_file() and path.stat().st_size and (
        path.name.startswith("data-") or path.suffix == ".zip")]
    done = world.damage(chance.choice(files), chance)
    told = world.command("import", source, f"--workdir={folder / 'back'}")
    if problem := told.fault((0, 2)):
        return f"{done}: {problem}"
    if told.code or "skipped: " in told.out:
        return ""
    there, whole = _facts(reader.read(folder / "back")), _facts(reader.read(_imported(around, tracker)))
    return "" if there == whole else f"{done}: other events, and nothing was said"


def model(around: World, chance: random.Random, folder: Path) -> str:
    """A model file: `predict` names the damage, or answers the same."""
    (fact,) = reader.read(around.whole).of(events.Model)
    path = folder / "digits.model.zip"
    path.write_bytes(reader.read(around.whole).bytes_of(fact.blob))
    before = world.command("predict", path, _picture(folder), "--json")
    done = world.damage(path, chance)
    after = world.command("predict", path, _picture(folder), "--json")
    if problem := after.fault((0, 2)):
        return f"{done}: {problem}"
    return "" if after.code or after.out == before.out else f"{done}: another answer"


def registered(around: World, chance: random.Random, folder: Path) -> str:
    """A file of a registry: `registry verify` and `show` name it, or nothing has changed."""
    place = f"--registry={folder / 'registry'}"
    for command in (("register", "digits", around.whole), ("promote", "digits@1", "production")):
        if problem := world.command("registry", *command, place).fault((0,)):
            return problem
    before = world.command("registry", "show", "digits@production", "--json", place).out
    path = chance.choice([path for path in (folder / "registry").rglob("*") if path.is_file() and path.stat().st_size])
    done = world.damage(path, chance)
    verified = world.command("registry", "verify", "digits@production", place)
    if problem := verified.fault():
        return f"{done}: {problem}"
    after = world.command("registry", "show", "digits@production", "--json", place)
    if problem := after.fault():
        return f"{done}: {problem}"
    # A torn last line is that of a crash: the alias, the last thing said, is then not there, which is said, too.
    return "" if verified.code or after.out == before else f"{done}: verified, and another"


def _facts(record: reader.RunRecord) -> list[Any]:
    return [(type(entry.event).__name__, json.dumps(events.to_json(entry.event), sort_keys=True)) for entry in record.entries
            if not (isinstance(entry.event, events.Text) and entry.event.name == "imported")]


@functools.cache
def _imported(around: World, tracker: str) -> Path:
    source = around.whole / "sync" / f"{tracker}-offline"
    return importer.import_run(source, around.folder / f"imported-{tracker}").directory


@functools.cache
def _idx(around: World) -> Path:
    return world.idx_folder(around.folder / "idx")


@functools.cache
def _prepared(around: World) -> Path:
    digits = sources.load("digits", "").arrays
    datasets.write(around.folder / "tfds", {split: (images[:200], labels[:200]) for split, (images, labels) in digits.items()})
    return around.folder / "tfds"


@functools.cache
def _trained(around: World, config: tuple[str, ...]) -> Path:
    """Train with a cache of its own, which is then full."""
    ended = world.shell("run.py", *config, f"--workdir={around.folder / 'short'}",
                        environment={"MNIST_JAX_CACHE": str(around.folder / "compiled")})
    if problem := ended.fault((0,)):
        raise SystemExit(f"the run that fills the cache did not finish: {problem}")
    return around.folder / "short"


def _picture(folder: Path) -> Path:
    from PIL import Image

    path = folder / "three.png"
    Image.fromarray(sources.load("digits", "").arrays["test"][0][3, ..., 0]).save(path)
    return path


def _load(folder: Path) -> splits.Splits:
    return splits.load_data("mnist", str(folder), validation_examples=100)


def _loaded(folder: Path, cache: Path) -> splits.Splits | None:
    """Return a data set, decoded anew; None where it is refused in a line."""
    try:
        with _cache(cache):
            return _load(folder)
    except errors.UserError:
        return None


def _cache(folder: Path) -> Any:
    from unittest import mock

    return mock.patch.dict("os.environ", {"MNIST_JAX_CACHE": str(folder)})


_KINDS: list[tuple[str, Callable[[World, random.Random, Path], str], int]] = [
    ("events and run.json", recorded, 400), ("pictures, tables and models in a record", blob, 200),
    ("checkpoints", checkpoints, 200), ("the cache of decoded data", cache, 100), ("IDX files", idx_files, 200),
    ("TFDS's array_record files", prepared_files, 500),
    ("Neptune folders of ours", functools.partial(replica, "neptune"), 300),
    ("Comet archives of ours", functools.partial(replica, "comet"), 200), ("model files", model, 200),
    ("registries", registered, 200)]
ATTACKS = [*(Attack("corruption", f"a flipped bit or a cut in {kind} is named or means nothing", attempts, 4, attempt)
             for kind, attempt, attempts in _KINDS),
           Attack("corruption", "a flipped bit or a cut in the cache of compiled programs means nothing", 30, 1, compiled)]
