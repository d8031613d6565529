"""A report is one file that shows what the records say: nothing from outside, nothing unescaped, no spike lost."""

import dataclasses
import html.parser
import json
import re

import numpy as np
import pytest

from mnist_jax import errors, events
from mnist_jax.record import blobs, reader, writer
from mnist_jax.view import curves, report
from tests.helpers import records


class Page(html.parser.HTMLParser):
    """What a browser would see: elements with their attributes, and the text outside of scripts."""

    def __init__(self, written: str):
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self._inside: list[str] = []
        self.feed(written)

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        self._inside.append(tag)

    def handle_endtag(self, tag):
        while self._inside and self._inside.pop() != tag:
            pass

    def handle_data(self, data):
        if not {"script", "style"} & set(self._inside):
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def panels_of(written: str) -> list[dict]:
    (panels,) = re.findall(r'id="panels">(.*?)</script>', written, re.DOTALL)
    return json.loads(panels)


def make_run(directory, name="made", seed=0, loss=(1.0, 0.5), **texts) -> reader.RunRecord:
    """Record a run by hand."""
    identity = events.RunInfo(writer.new_id(), name, 1.0 + seed, {"seed": seed, "rate": 0.1}, ("run.py", name))
    with writer.create(directory, identity) as recorder:
        steps = np.arange(1, len(loss) + 1)
        recorder.append(events.Metrics(steps, {"train/loss": np.array(loss)}, steps.astype(float)),
                        *(events.Text(key, 1, text) for key, text in texts.items()))
        recorder.close("finished")
    return reader.read(directory)


@pytest.fixture(scope="module")
def written(finished_run, tmp_path_factory) -> str:
    return report.write_report([finished_run], tmp_path_factory.mktemp("report") / "new" / "report.html").read_text()


def test_the_file_asks_for_nothing_else(written):
    for tag, attributes in Page(written).elements:
        for name in ("src", "href", "srcset", "action", "poster"):
            value = attributes.get(name)
            assert value is None or value.startswith(("data:", "#")), (tag, value)
    assert "default-src 'none'" in written


def test_what_the_record_holds_is_there(written, finished_run):
    recorded, seen = reader.read(finished_run), Page(written)
    last = recorded.last()
    for phrase in (f"{last['test/accuracy']:.2%}", "finished", recorded.run.id, "neptune-offline", "comet-offline", "complete",
                 "Confusion matrix", "Lineage", recorded.of(events.Model)[-1].blob.sha256, "optimizer.learning_rate"):
        assert phrase in seen.text, phrase
    pictures = [attributes for tag, attributes in seen.elements if tag == "img"]
    assert len(pictures) == 3 and all(each["alt"] and each["src"].startswith("data:image/png;base64,") for each in pictures)
    by_series = {curve["series"]: curve for panel in panels_of(written) for curve in panel["curves"]}
    steps, values = records.series_of(recorded)["train/loss"]
    assert by_series["train/loss"]["x"] == steps and by_series["train/loss"]["y"] == values
    assert {"validation/loss", "test/accuracy", "train/epoch_loss"} <= by_series.keys()


def test_only_settings_that_differ_are_shown_side_by_side(tmp_path):
    runs = [make_run(tmp_path / str(seed), seed=seed) for seed in (3, 4)]
    seen = Page(report.of(runs))
    assert "Settings that differ setting made (3) made (4) seed 3 4" in seen.text and "1 settings are the same" in seen.text


def test_names_that_repeat_are_told_apart(tmp_path):
    runs = [make_run(tmp_path / folder / "run") for folder in ("one", "two")]
    assert report.distinct(runs) == [f"made (run) ({run.run.id[:8]})" for run in runs]
    assert report.distinct([runs[0], make_run(tmp_path / "three", "other")]) == ["made", "other"]


def test_nothing_in_a_record_becomes_markup_or_script(tmp_path):
    evil = '</script><script>alert(1)</script><img src=x onerror=alert(2)>"\'&\u2028'
    run = make_run(tmp_path / "run", name=evil.replace("/", "|"), note=evil)
    seen = Page(report.of([run]))
    assert [tag for tag, _ in seen.elements].count("script") == 3
    assert all("onerror" not in attributes and attributes.get("src") != "x" for _, attributes in seen.elements)
    assert "onerror=alert(2)" in seen.text  # as text


def test_sampling_keeps_the_ends_and_every_spike():
    steps, values = np.arange(1, 1_000_001), np.zeros(1_000_000)
    values[[123_456, 765_432]] = 9.0, -9.0
    x, y = curves.sample(steps, values)
    assert len(x) <= curves.MOST_POINTS + 2 and (x[0], x[-1]) == (1, 1_000_000) and (np.diff(x) > 0).all()
    assert 9.0 in y and -9.0 in y


def test_three_seeds_become_a_band_and_a_run_that_differs_does_not(tmp_path):
    losses = [(1.0, 0.6), (2.0, 0.4), (3.0, 0.2)]
    runs = [make_run(tmp_path / str(seed), seed=seed, loss=loss) for seed, loss in enumerate(losses)]
    longer = make_run(tmp_path / "longer", "longer", loss=(1.0, 2.0, 3.0))
    other = dataclasses.replace(longer, run=dataclasses.replace(longer.run, config={"seed": 0, "rate": 0.2}))
    (panel,) = curves.panels([*runs, other], ["a", "b", "c", "other"])
    (band,) = panel["bands"]
    assert band["runs"] == ["a", "b", "c"] and band["x"] == [1, 2]
    np.testing.assert_allclose([band["mean"], band["low"], band["high"]], [[2.0, 0.4], [1.0, 0.2], [3.0, 0.6]])


def test_numbers_that_are_none_leave_a_gap(tmp_path):
    run = make_run(tmp_path / "run", loss=(1.0, float("nan"), float("inf"), 0.5))
    assert panels_of(report.of([run]))[0]["curves"][0]["y"] == [1.0, None, None, 0.5]


def test_a_run_without_any_metrics_has_a_page(tmp_path):
    assert "made" in Page(report.of([make_run(tmp_path / "run", loss=())])).text


def test_damage_and_a_place_that_cannot_be_written_are_named(finished_run, tmp_path):
    with pytest.raises(errors.UserError, match="no run.json"):
        report.write_report([tmp_path], tmp_path / "report.html")
    (tmp_path / "file").write_text("")
    with pytest.raises(errors.UserError, match="--html"):
        report.write_report([finished_run], tmp_path / "file" / "report.html")
    with writer.create(tmp_path / "run", events.RunInfo(writer.new_id(), "made", 1.0, {}, ())) as recorder:
        recorder.append(events.Image("odd", 1, blobs.write(tmp_path / "run", b"GIF89a", "odd.png"), ""))
        recorder.close("finished")
    with pytest.raises(errors.RecordError, match="expected a PNG file"):
        report.write_report([tmp_path / "run"], tmp_path / "report.html")
