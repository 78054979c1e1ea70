"""What was typed is what is used: names of files and the like, before Fire and MONAI read something else into them."""

from __future__ import annotations

import ast
import builtins
import os
import re
import string
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from fire.parser import DefaultParseValue, SeparateFlagArgs
from monai.bundle import ConfigParser
from monai.bundle.reference_resolver import ReferenceResolver

from sizeloss_monai.bundle.config_check import ConfigError, given_to_run, running_parser

__all__ = ["literal", "typed_settings", "use_what_was_typed"]

PATHS = ("bundle_root", "checkpoint", "ckpt_dir", "dataset_dir", "datalist_file", "evaluation_dir", "output_dir")
TEXTS = (*PATHS, "common_case", "experiment", "experiment_prefix", "pattern", "section")


def literal(text: str) -> str:
    """A value for a MONAI config that means this very text.

    MONAI takes ``@`` for a reference, ``$`` for an expression, ``%`` for a macro, and makes ``::`` of ``#``.

    Args:
        text: such as a path; any characters.

    Returns:
        An expression that makes it, or the text itself where it has no such character.
    """
    plain = {*string.ascii_letters, *string.digits, *"/._- "}
    if not text.startswith(("$", "@", "%")) and "#" not in text:
        return text
    return "$'" + "".join(c if c in plain else f"\\U{ord(c):08x}" for c in text) + "'"


def typed_settings(argv: Sequence[str]) -> dict[str, str | None]:
    """The settings of a ``python -m monai.bundle run``, as texts.

    Args:
        argv: of the process.

    Returns:
        By name what was typed; None where no value follows. Empty in another program's process.
    """
    if not Path(argv[0]).as_posix().endswith("monai/bundle/__main__.py"):
        return {}
    args, _ = SeparateFlagArgs(list(argv[1:]))
    settings: dict[str, str | None] = {}
    for arg, following in zip(args, [*args[1:], "--"], strict=True):
        if _is_flag(arg):
            name, equals, value = arg.lstrip("-").partition("=")
            settings[name.replace("-", "_")] = value if equals else None if _is_flag(following) else following
    return settings


def _is_flag(arg: str) -> bool:
    """Whether Fire takes an argument for the name of a setting."""
    return re.match(r"--|-[a-zA-Z]", arg) is not None


def use_what_was_typed() -> None:
    """Give the running bundle's settings the texts that were typed for them. For the start of ``initialize``.

    Fire, MONAI's command line, cuts a text at ``#`` and makes numbers, lists and the like of others: a folder
    ``scans#2`` would be another one, ``20240115`` a number. MONAI then takes ``@home`` for a reference and ``$x`` for
    an expression. It takes ``%x`` for a macro before any item of a config can run: such a name is written ``./%x``.
    Settings that are texts get what was typed, and ``~`` in paths becomes the home folder. A reference to
    an item that the config has, and an expression of names that are known, mean what they mean to MONAI.

    Raises:
        ConfigError: when a text has no value or is none, or when Fire has cut the value of another setting.
    """
    parser = running_parser()
    typed = typed_settings(sys.argv)
    for name, text in typed.items():
        if text is not None and name not in TEXTS and "#" in text and "#" not in repr(DefaultParseValue(text)):
            raise ConfigError(
                f"{name} must be without '#', got {text!r}: all behind it would be dropped. Quote texts in it."
            )
    given = {**given_to_run(), **typed}
    config = parser.get()
    for name in TEXTS:
        if name not in config:
            continue
        value = _text(name, given.get(name, config[name]), config[name])
        # `%name` and what a config file itself says are MONAI's to read; a macro has been replaced by now
        if not isinstance(value, str) or value.startswith("%"):
            continue
        if value.startswith(("$", "@")) and (name not in given or _is_of_monai(value, name, parser)):
            continue
        text = literal(os.path.expanduser(value) if name in PATHS else value)
        if text != config[name]:
            parser[name] = text  # which is then parsed again


def _text(name: str, value: Any, now: Any) -> Any:
    """A setting's text; what is neither a text nor could be one is returned as it is.

    Raises:
        ConfigError: when a value is missing, or something that MONAI or YAML has made of a text.
    """
    if value is None and name in typed_settings(sys.argv):
        raise ConfigError(f"{name} must be a text, got no value. One that begins with '-' is written --{name}=VALUE.")
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if value == "None" and now is None:
        return None  # as Fire reads it, where that is a choice
    if isinstance(value, (bool, int, float, list, tuple, set)):
        raise ConfigError(f"{name} must be a text, got {value!r} ({type(value).__name__}): put it in quotes.")
    return value


def _is_of_monai(text: str, name: str, parser: ConfigParser) -> bool:
    """Whether a text that begins with ``@`` or ``$`` is a reference to an item, or an expression of known names.

    Items that need the setting `name` itself cannot be meant.
    """
    references = ReferenceResolver.match_refs_pattern(text)
    if any(reference not in parser for reference in references) or name in _needed(references, parser):
        return False
    if text.startswith("@"):
        return bool(references)
    try:
        tree = ast.parse(
            ReferenceResolver.update_refs_pattern(text, dict.fromkeys(references))[1:].strip(), mode="eval"
        )
    except SyntaxError:
        return False
    names = [node for node in ast.walk(tree) if isinstance(node, ast.Name)]
    known: Mapping[str, Any] = {**vars(builtins), **parser.globals, ReferenceResolver._vars: None}
    made = {node.id for node in names if isinstance(node.ctx, ast.Store)}
    made |= {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)}
    is_bare = isinstance(tree.body, ast.Name) or (
        isinstance(tree.body, ast.Constant) and not isinstance(tree.body.value, str)
    )
    return not is_bare and all(node.id in known or node.id in made for node in names)


def _needed(references: Iterable[str], parser: ConfigParser) -> set[str]:
    """The items that these items are made of, themselves included; the first part of each name."""
    needed: set[str] = set()
    left = list(references)
    while left:
        item = left.pop().split(ReferenceResolver.sep)[0]
        if item not in needed:
            needed.add(item)
            left += ReferenceResolver.find_refs_in_config(parser[item], item) if item in parser else []
    return needed
