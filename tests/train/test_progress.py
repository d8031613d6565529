"""The progress bar: it is drawn on a terminal alone, and whatever happens to the terminal, training goes on."""

import io
import sys

import pytest

from mnist_jax.train import progress


class Terminal(io.StringIO):
    """A stream that says it is a terminal, and can be cut off."""

    gone = False

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        if self.gone:
            raise OSError(5, "Input/output error")
        return super().write(text)


def closed() -> io.StringIO:
    stream = io.StringIO()
    stream.close()
    return stream


@pytest.mark.parametrize("stream", [None, closed(), io.StringIO()])
def test_without_a_terminal_there_is_no_bar(monkeypatch, stream):
    monkeypatch.setattr(sys, "stderr", stream)
    assert progress.bar(10, 5) is None


def test_a_bar_on_a_terminal(monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    update = progress.bar(10, 5)
    assert update
    update(3, 0.5, 0.75, 1000.0)
    update(10, 0.25, 0.9, 1000.0)
    assert "0/10" in sys.stderr.getvalue()


@pytest.mark.parametrize("how", ["gone", "closed"])
def test_a_terminal_that_goes_does_not_stop_the_training(monkeypatch, how):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    update = progress.bar(10, 5)
    assert update
    if how == "gone":
        terminal.gone = True
    else:
        terminal.close()
    for step in range(1, 11):
        update(step, 0.5, 0.75, 1000.0)
