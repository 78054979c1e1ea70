"""What may be wrong with data, and the error that says so."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, get_args

__all__ = ["ConfigError", "DataError", "Finding", "Place", "check_option", "counted", "listed"]


class ConfigError(ValueError):
    """A configuration that cannot mean what its author meant."""


class DataError(ValueError):
    """Data that cannot be used as they are. The message says what was found and what was expected."""


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong with a case, or with the data list as a whole.

    Args:
        severity: ``"error"`` for data that cannot be used or that contradict themselves; ``"warning"`` for data that
            can be used, but are probably not what their author meant.
        case: name of the case, None for the data list.
        key: of the item, or of the data list.
        code: the kind of problem, for programs; it does not change with the wording.
        found, expected: the message.
    """

    severity: Literal["error", "warning"]
    case: str | None
    key: str
    code: str
    found: str
    expected: str

    def __str__(self) -> str:
        where = "data list" if self.case is None else f"case '{self.case}'"
        return f"{where}, key '{self.key}': found {self.found}, expected {self.expected}"


class Place(NamedTuple):
    """The key of a case, or of the data list (``case`` is None), where something may be wrong."""

    case: str | None
    key: str

    def error(self, code: str, found: str, expected: str) -> Finding:
        """An error at this place."""
        return Finding("error", self.case, self.key, code, found, expected)

    def warning(self, code: str, found: str, expected: str) -> Finding:
        """A warning at this place."""
        return Finding("warning", self.case, self.key, code, found, expected)


def counted(number: int, noun: str) -> str:
    """A number and its noun for a message: ``"1 error"`` or ``"2 errors"``."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def listed(names: Sequence[str], limit: int = 20) -> str:
    """Up to `limit` names for a message, and the number of the others: ``"a, b and 3 more"``."""
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more


def check_option(name: str, value: object, options: Any) -> None:
    """Raise ValueError unless ``value`` is one of ``options``, a ``Literal`` type; ``name`` is the argument's name."""
    if value not in get_args(options):
        raise ValueError(f"{name} must be one of {get_args(options)}, got {value!r}.")
