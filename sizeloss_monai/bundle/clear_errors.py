"""The one message that matters, instead of the trace of everything MONAI was doing."""

from __future__ import annotations

import ast
import errno
import logging
import re
import sys
import threading
from collections.abc import Iterator
from types import TracebackType
from typing import Any

from sizeloss_monai.bundle.config_check import ConfigError
from sizeloss_monai.bundle.output_dir import OutputDirError
from sizeloss_monai.errors import DataError
from sizeloss_monai.proposals import NonFiniteLogitsError

__all__ = ["install_clear_errors"]

CLEAR_ERRORS = (ConfigError, DataError, NonFiniteLogitsError, OutputDirError)
# what a machine, not a mistake in a program, answers to one that writes
MACHINE_ERRORS = frozenset(
    getattr(errno, name, None)
    for name in ("ENOSPC", "EDQUOT", "EFBIG", "EROFS", "EACCES", "EPERM", "EIO", "ENAMETOOLONG", "ENOTDIR")
)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _clear_message(error: BaseException | None) -> str | None:
    """The line to show instead of an error's trace; None where the trace is needed."""
    chain = list(_chain(error))
    for cause in reversed(chain):
        if isinstance(cause, CLEAR_ERRORS):
            return f"{type(cause).__name__}: {cause}"
    for cause in reversed(chain):
        # SaveImage raises an error with the writers' traces in its text instead of theirs
        told = re.search(r"Error: \[Errno (\d+)\] ([^:\n]+): ('[^\n]+')\s*$", str(cause))
        if isinstance(cause, RuntimeError) and told:
            cause = OSError(int(told[1]), told[2], ast.literal_eval(told[3]))
        if isinstance(cause, OSError) and cause.errno in MACHINE_ERRORS:
            named = repr(cause.filename) if cause.filename else "of the run"
            return f"OutputDirError: cannot read or write the file {named}: {cause.strerror}."
    return None


def install_clear_errors() -> None:
    """Print the message alone of a wrong input, or of a network that diverged, when it ends the process.

    Other errors keep their full trace.

    MONAI wraps whatever an item of a config raises into ``RuntimeError: Failed to instantiate component``, several
    times over, and logs the trace of what an engine raises. What a caller in Python can catch stays as it is, and so
    does the exit code, 1. A full disk and its like are told in a line too.
    """
    default_hook, default_thread_hook = sys.excepthook, threading.excepthook
    default_factory = logging.getLogRecordFactory()

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        message = _clear_message(error)
        if message is None:
            default_hook(kind, error, trace)
        else:
            print(message, file=sys.stderr)

    def thread_hook(args: threading.ExceptHookArgs) -> None:
        # a thread that writes for the main one, such as TensorBoard's, which raises the same error then
        if _clear_message(args.exc_value) is None:
            default_thread_hook(args)

    def make_record(*args: Any, **kwargs: Any) -> logging.LogRecord:
        record = default_factory(*args, **kwargs)
        if record.exc_info and _clear_message(record.exc_info[1]) is not None:
            record.exc_info = None
        return record

    sys.excepthook, threading.excepthook = hook, thread_hook
    logging.setLogRecordFactory(make_record)
