"""Logs of the services: structlog on standard error, JSON unless it is a terminal; the standard library's go along."""

import io
import logging
import sys
from typing import Any, Final, TextIO, cast

import structlog

FORMATS: Final = ("auto", "json", "console")
LEVELS: Final = ("debug", "info", "warning", "error")
QUIET: Final = ("uvicorn.access", "uvicorn.error", "alembic", "httpx", "httpcore", "asyncio")


WITHOUT_LOCALS: Final = structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
"""A traceback's local variables may be keys and tokens."""


class _Stderr(io.TextIOBase):
    """Whatever standard error is when something is written: loggers are kept for ever, streams may not be."""

    def write(self, text: str) -> int:
        return sys.stderr.write(text)

    def flush(self) -> None:
        sys.stderr.flush()


_STDERR: Final = _Stderr()


def configure(style: str = "auto", level: str = "info") -> None:
    """For the whole process; call it once, before anything logs. Exceptions are in one line of JSON, too."""
    json = style == "json" or (style == "auto" and not sys.stderr.isatty())
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    last: list[Any] = (
        [structlog.processors.ExceptionRenderer(WITHOUT_LOCALS), structlog.processors.JSONRenderer()]
        if json
        else [structlog.dev.ConsoleRenderer(sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback)]
    )
    structlog.configure(
        processors=[*shared, structlog.processors.StackInfoRenderer(), *last],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=structlog.PrintLoggerFactory(cast("TextIO", _STDERR)),
        cache_logger_on_first_use=True,
    )
    _standard_library(shared, last, level)


def _standard_library(shared: list[Any], last: list[Any], level: str) -> None:
    handler = logging.StreamHandler(_STDERR)
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[*shared, structlog.stdlib.add_logger_name],
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
    )
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name in QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
