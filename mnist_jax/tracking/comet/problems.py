"""The errors of Comet's client: it logs most of them and raises few, of many types."""

from __future__ import annotations

import contextlib
import json
import logging
import threading
from collections.abc import Iterator


class Problems(logging.Handler):
    """Collects the errors that the client logs and does not raise: refusals in this thread, losses in its own threads."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self._losses: list[str] = []
        self._refusals: list[str] = []
        self._thread = threading.get_ident()

    def emit(self, record: logging.LogRecord) -> None:
        (self._refusals if record.thread == self._thread else self._losses).append(record.getMessage())

    def take_refusals(self) -> str:
        """Return the refusals since the last call."""
        messages = "; ".join(self._refusals)
        self._refusals.clear()
        return messages

    def first(self) -> str:
        """Return the first loss, or ""."""
        return next(iter(self._losses), "")


@contextlib.contextmanager
def connection_errors() -> Iterator[None]:
    """Raise ConnectionError in place of the client's errors that mean a lost server; a refusal passes unchanged."""
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
