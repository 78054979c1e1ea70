"""The one message that matters, instead of the trace of everything MONAI was doing."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import TracebackType

from sizeloss_monai.bundle.config_check import ConfigError
from sizeloss_monai.bundle.output_dir import OutputDirError
from sizeloss_monai.data.findings import DataError
from sizeloss_monai.proposals import NonFiniteLogitsError

__all__ = ["install_clear_errors"]

CLEAR_ERRORS = (ConfigError, DataError, NonFiniteLogitsError, OutputDirError)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def install_clear_errors() -> None:
    """Print the message alone of a wrong input, or of a network that diverged, when it ends the process.

    Other errors keep their full trace.

    MONAI wraps whatever an item of a config raises into ``RuntimeError: Failed to instantiate component``, several
    times over. What a caller in Python can catch stays as it is, and so does the exit code, 1.
    """
    default_hook = sys.excepthook

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        clear = [e for e in _chain(error) if isinstance(e, CLEAR_ERRORS)]
        if clear:
            print(f"{type(clear[-1]).__name__}: {clear[-1]}", file=sys.stderr)
        else:
            default_hook(kind, error, trace)

    sys.excepthook = hook
