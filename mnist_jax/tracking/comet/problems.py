"""What Comet's client says of its troubles: it logs most of them and raises few, each in its own way."""

from __future__ import annotations

import contextlib
import json
import logging
import threading
from collections.abc import Iterator


class Problems(logging.Handler):
    """Collects the errors that the client logs and does not raise: of this thread a refusal, of its own threads a loss."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.seen: list[str] = []
        self._refused: list[str] = []
        self._thread = threading.get_ident()

    def emit(self, record: logging.LogRecord) -> None:
        (self._refused if record.thread == self._thread else self.seen).append(record.getMessage())

    def of_this_thread(self) -> str:
        """Return what was refused since the last question."""
        words = "; ".join(self._refused)
        self._refused.clear()
        return words

    def first(self) -> str:
        return next(iter(self.seen), "")


@contextlib.contextmanager
def lost() -> Iterator[None]:
    """Tell a lost server from a refusal: raise ConnectionError for the first, let the second pass."""
    from comet_ml import exceptions

    try:
        yield
    except exceptions.CometRestApiException as error:
        status = error.response.status_code
        if 400 <= status < 500 and status not in (401, 403, 429):
            raise
        raise ConnectionError(f"{type(error).__name__}: {error}") from error
    except (json.JSONDecodeError, exceptions.LogArtifactException, exceptions.GetArtifactException) as error:
        raise ConnectionError(f"{type(error).__name__}: {error}") from error
