"""Redaction: texts without the users and passwords that an address in them may hold."""

from __future__ import annotations

import logging
import re
from typing import Any
from urllib.parse import unquote, urlsplit

# A password may itself hold an @: all up to the last one before the path is left out.
CREDENTIALS = re.compile(r"(?<=://)[^\s/?#'\"]*@")


def redacted(text: str) -> str:
    """A text with `***` in place of every user and password before a host."""
    return CREDENTIALS.sub("***@", text)


def parted(address: str) -> tuple[str, str, str]:
    """An address without user and password, the user, and the password; a path as it is."""
    if redacted(address) == address:
        return address, "", ""
    parts = urlsplit(address)
    before, _, host = parts.netloc.rpartition("@")
    user, _, password = before.partition(":")
    return parts._replace(netloc=host).geturl(), unquote(user), unquote(password)


def redact_logs() -> None:
    """Redact all that this process logs from now on, tracebacks too, whoever logs it."""
    make = logging.getLogRecordFactory()
    if getattr(make, "is_redacting", False):
        return

    def make_redacted(*given: Any, **options: Any) -> logging.LogRecord:
        record = make(*given, **options)
        text = f"{record.msg}{record.args}"
        if redacted(text) != text:
            record.msg, record.args = redacted(record.getMessage()), ()
        if record.exc_info and record.exc_info[0]:
            # A formatter takes the text that is there already.
            record.exc_text = redacted(logging.Formatter().formatException(record.exc_info))
        return record

    make_redacted.is_redacting = True  # type: ignore[attr-defined]
    logging.setLogRecordFactory(make_redacted)
