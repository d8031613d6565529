"""What `show` prints."""


from mnist_jax import events
from mnist_jax.record import writer
from mnist_jax.view import text
from tests.helpers import records


def test_names_of_metrics_cannot_steer_the_terminal(tmp_path):
    with writer.create(tmp_path / "run", events.RunInfo(writer.new_id(), "x", 0.0, {}, ())) as recorder:
        recorder.append(records.point(1, "a\x1b[2J\x07"))
        recorder.close("finished")
    assert not set("\x1b\x07") & set(text.text(text.summary(tmp_path / "run")))
