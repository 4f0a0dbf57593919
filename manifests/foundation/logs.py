"""Removes the secrets of URLs from all logs of this process, those of libraries included."""

import logging
import traceback
from typing import Any

from manifests.foundation.messages import redact


class RedactedRecord(logging.LogRecord):
    """A log record whose text and traceback are redacted."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        if isinstance(self.exc_info, tuple) and self.exc_info[1] is not None:
            # A formatter takes this text in place of a traceback of its own.
            self.exc_text = redact("".join(traceback.format_exception(self.exc_info[1]))).rstrip()

    def getMessage(self) -> str:  # noqa: N802  # the name of the standard library
        """The text, redacted when it is asked for, because `hiding` may be in force only then."""
        return redact(super().getMessage())


def redact_logs() -> None:
    """Redact every record that is logged in this process from now on."""
    logging.setLogRecordFactory(RedactedRecord)
