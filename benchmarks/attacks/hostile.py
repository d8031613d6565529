"""Input by somebody who means harm: archives that lead out, bombs, pictures that are none, names with escapes and markup."""

from __future__ import annotations

import functools
import io
import json
import pickle
import random
import warnings
import zipfile
from pathlib import Path
from typing import Any

from benchmarks.attacks import world
from benchmarks.attacks.world import Attack, World
from mnist_jax import events
from mnist_jax.record import reader, writer
from tests.helpers import records

_OUTSIDE = "kept-outside-by-nobody"
_NAMES = ("../../{out}", "/{out}", "..\\..\\{out}", "a/../../{out}", "\x00{out}", "{out}\n", "con", "a" * 5_000, "\u202e{out}",
          "-rf", "%2e%2e/{out}", "~/{out}", "$({out})")
_ESCAPES = ("\x1b[2J\x1b]0;owned\x07", "<script>alert(1)</script>", "\"'><img src=x onerror=alert(1)>", "a\nb\rc",
            "\u2028\u2029", "\x00\x07\x08", "</script><script>", "{{7*7}}", "\ud83d\ude00", "javascript:alert(1)")


def comet(around: World, chance: random.Random, folder: Path) -> str:
    """Comet archives whose members and messages name files outside, are bombs, nest deeply or count absurdly."""
    path = folder / "archive.zip"
    messages = [_comet_message(chance) for _ in range(chance.randint(1, 8))]
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("messages.json", b"\n".join(messages))
        archive.writestr("experiment.json", chance.choice((b"{}", b"[]", b'{"tags": 1}', b"\xff", b'{"offline_id": "../x"}')))
        for _ in range(chance.randint(0, 3)):
            member = zipfile.ZipInfo(_name(chance).replace("\x00", "_")[:200] or "x")
            member.external_attr = chance.choice((0, 0o120777 << 16))  # the second: a symbolic link
            with warnings.catch_warnings():  # of names that repeat
                warnings.simplefilter("ignore")
                archive.writestr(member, chance.choice((b"/etc/passwd", bytes(chance.choice((10, 5_000_000))), _pickle())))
    return _imported(path, folder)


def neptune(around: World, chance: random.Random, folder: Path) -> str:
    """Neptune folders whose operations name files outside, nest deeply, count absurdly or are no operations."""
    left = folder / "run__0123__1__abcd"
    left.mkdir()
    operations = b"".join(_neptune_operation(chance, version) for version in range(1, chance.randint(2, 10)))
    (left / "data-1.log").write_bytes(operations)
    (left / "metadata.json").write_bytes(chance.choice((b"{}", b"[]", b"\xff",
                                                        b'{"containerId": "../../x", "createdAt": 1e999}')))
    if chance.random() < 0.3:
        (left / "upload_path").symlink_to("/etc")
    return _imported(left, folder)


def pictures(around: World, chance: random.Random, folder: Path) -> str:
    """Files that are no pictures, huge ones and damaged ones, given to `predict`."""
    path = folder / "picture.png"
    whole = (around.whole / "blobs" / reader.read(around.whole).of(events.Image)[0].blob.sha256).read_bytes()
    path.write_bytes(chance.choice((
        b"", b"\x89PNG\r\n\x1a\n", chance.randbytes(chance.randint(1, 4_000)), whole[:chance.randrange(len(whole))], _pickle(),
        b"GIF89a" + chance.randbytes(50), b"BM" + chance.randbytes(80), b"<svg onload=alert(1)>", _bomb_png(), b"%PDF-1.4")))
    return world.command("predict", around.whole, path).fault((0, 2))


def names(around: World, chance: random.Random, folder: Path) -> str:
    """Names, notes and texts of a record with escapes and markup: no terminal and no page carries them out."""
    bad = "".join(chance.choices(_ESCAPES, k=3))
    directory = folder / "runs" / "one"
    run = events.RunInfo(writer.new_id(), f"n{bad}", 0.0, {"k" + bad: bad}, (bad,), tags=(bad,), description=bad)
    with writer.create(directory, run) as recorder:
        recorder.append(events.Text(bad, 1, bad), events.Hyperparameters({bad: bad}),
                        records.point(1, f"m{bad}"), events.Environment({bad: bad}),
                        events.Status(1, "finished"))
        recorder.close("finished")
    for command in (("show", directory), ("list", directory.parent)):
        told = world.command(*command)
        if problem := told.fault((0,)):
            return problem
        if set("\x1b\x07\x08\x00\r") & set(told.out):
            return f"{command[0]} prints control characters"
    written = folder / "report.html"
    if problem := world.command("report", directory, f"--html={written}").fault((0,)):
        return problem
    body = written.read_text().partition("<main")[2].partition("<script>")[0].replace('<script type="application/json"', "")
    return "the page has markup of a record" if "<script" in body or "<img src=x" in body else ""


def arguments(around: World, chance: random.Random, folder: Path) -> str:
    """Names of runs, models and aliases on the command line that lead elsewhere."""
    bad = chance.choice((_name(chance), chance.choice(_ESCAPES)))
    command = chance.choice((("show", bad), ("list", bad), ("registry", "register", bad, around.whole),
                             ("registry", "show", bad), ("registry", "promote", f"digits@{bad}", bad),
                             ("import", bad, f"--workdir={folder / 'x'}"), ("predict", bad, bad),
                             ("compare-trackers", bad), ("sync", bad, "--tracker", bad)))
    told = world.command(*command, *((f"--registry={folder / 'registry'}",) if command[0] in ("registry", "predict") else ()))
    if _escaped(folder):
        return f"{command}: something was written outside"
    return told.fault((0, 1, 2)) and f"{command}: {told.fault((0, 1, 2))}"


def _imported(path: Path, folder: Path) -> str:
    told = world.command("import", path, f"--workdir={folder / 'run'}")
    if problem := told.fault((0, 2)):
        return problem
    if set("\x1b\x07\x00") & set(told.out + told.err):
        return "control characters on the terminal"
    if _escaped(folder):
        return "something was written outside"
    if told.code:
        return "" if not (folder / "run").exists() else "a refused import left something"
    record = reader.read(folder / "run")
    outside = [fact for kind in (events.Artifact, events.Image, events.Model) for fact in record.of(kind)
               if b"root:" in record.bytes_of(fact.blob)]
    return "a file outside was read" if outside else world.command("show", folder / "run").fault((0,))


def _escaped(folder: Path) -> bool:
    return any(_OUTSIDE in str(path) for place in (folder.parent, Path("/"), Path.home(), Path.cwd())
               for path in place.glob(f"*{_OUTSIDE}*"))


def _name(chance: random.Random) -> str:
    return chance.choice(_NAMES).format(out=_OUTSIDE)


def _value(chance: random.Random) -> Any:
    return chance.choice((None, True, -1, 1e999, 10 ** 400, "x" * 100_000, [], {}, _name(chance), chance.choice(_ESCAPES),
                          {"a": {"b": {"c": []}}}, float("nan")))


def _comet_message(chance: random.Random) -> bytes:
    if chance.random() < 0.15:
        return chance.choice((b"[" * 50_000, b"\xff\xfe", b'{"type": 1}', b"null", b"9" * 100_000))
    name = chance.choice((_name(chance), chance.choice(_ESCAPES)))
    payload = chance.choice((
        {"file_path": _name(chance), "upload_type": chance.choice(("asset", "visualization", "model-element", "text-sample")),
         "additional_params": {"fileName": name, "figName": name, "step": _value(chance)}, "metadata": _value(chance)},
        {"file_path": "/etc/passwd", "upload_type": "asset", "additional_params": {"fileName": name}},
        {"metric": {"metricName": name, "metricValue": _value(chance), "step": _value(chance)},
         "local_timestamp": _value(chance)},
        {"param": {"paramName": name, "paramValue": _value(chance)}}, {"key": name, "value": _value(chance)},
        {"html": chance.choice(_ESCAPES)}))
    kind = chance.choice(("file_upload", "metric_msg", "parameter_msg", "log_other", "html", "git_metadata", name))
    return json.dumps({"type": kind, "payload": payload}).encode()


def _neptune_operation(chance: random.Random, version: int) -> bytes:
    if chance.random() < 0.15:
        return chance.choice((b"[" * 50_000, b'{"obj":' * 3_000, b"\xff", b"{}", b'{"obj": 1, "version": "x"}'))
    path = chance.choice(([_name(chance)], ["a", chance.choice(_ESCAPES)], [], ["a"] * 3_000, "text"))
    kind, more = chance.choice((
        ("AssignString", {"value": _value(chance)}), ("AssignFloat", {"value": _value(chance)}),
        ("LogFloats", {"values": [{"value": _value(chance), "step": _value(chance), "ts": _value(chance)}]}),
        ("LogFloats", {"values": _value(chance)}),
        ("LogImages", {"values": [{"value": {"data": _value(chance), "name": None, "description": None}, "step": 1, "ts": 1}]}),
        ("UploadFile", {"ext": "txt", "file_path": "/etc/passwd"}),
        ("UploadFileContent", {"ext": _name(chance), "file_content": "!!"}),
        ("UploadFileSet", {"file_globs": ["/etc/*"], "reset": True}), ("CopyAttribute", {"source_path": [_name(chance)]}),
        (_name(chance), {})))
    return json.dumps({"obj": {"type": kind, "path": path, **more}, "version": chance.choice((version, version, 10 ** 30)),
                       "at": _value(chance)}).encode()


class _Evil:
    def __reduce__(self) -> Any:
        return open, (f"/tmp/{_OUTSIDE}", "w")


def _pickle() -> bytes:
    return pickle.dumps(_Evil())


@functools.cache
def _bomb_png() -> bytes:
    """Return a PNG of 30,000 by 30,000 pixels in some kilobytes."""
    from PIL import Image

    Image.MAX_IMAGE_PIXELS, before = None, Image.MAX_IMAGE_PIXELS
    png = io.BytesIO()
    Image.new("1", (30_000, 30_000)).save(png, "PNG")
    Image.MAX_IMAGE_PIXELS = before
    return png.getvalue()


ATTACKS = [
    Attack("hostile input", "a Comet archive by an attacker is imported without harm or refused in a line", 1_000, 10, comet),
    Attack("hostile input", "a Neptune folder by an attacker is imported without harm or refused in a line", 1_000, 10,
           neptune),
    Attack("hostile input", "what is no picture is refused in a line", 300, 3, pictures),
    Attack("hostile input", "names with escapes and markup do nothing on the terminal and in the page", 200, 3, names),
    Attack("hostile input", "names that lead elsewhere lead nowhere", 500, 10, arguments),
]
