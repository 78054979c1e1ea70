"""Guards a run: misspelt names, texts that the command line changed, and errors that MONAI buries."""

from __future__ import annotations

import ast
import builtins
import difflib
import errno
import inspect
import logging
import os
import re
import string
import sys
import threading
import time
import traceback
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

from fire.parser import DefaultParseValue, SeparateFlagArgs
from monai.bundle import ConfigParser, ConfigWorkflow, run
from monai.bundle.properties import InferProperties, TrainProperties
from monai.bundle.reference_resolver import ReferenceResolver
from monai.bundle.utils import ID_SEP_KEY
from monai.utils import BundlePropertyConfig

from sizeloss_monai.bundle.output_dir import OutputDirError
from sizeloss_monai.errors import ConfigError, DataError
from sizeloss_monai.proposals import NonFiniteLogitsError

__all__ = [
    "check_names",
    "check_that",
    "guard_run",
    "install_clear_errors",
    "is_handed_over",
    "literal",
    "typed_settings",
    "unused_names",
    "use_what_was_typed",
]

ENTRY_POINTS = frozenset({"_meta_", "_requires_", "imports", "initialize", "run", "finalize"})
PATHS = ("bundle_root", "checkpoint", "dataset_dir", "datalist_file", "evaluation_dir", "output_dir")
TEXTS = (*PATHS, "experiment", "pattern", "section", "supervision#common_bounds#name")
RENAMED = {
    "augmentation": "train#augmentation",
    "bounds_mode": "supervision#bounds",
    "bounds_per": "train#per",
    "cache_workers": "train#dataset#num_workers",
    "checked_keys": "train#annotations",
    "checked_unannotated": "train#unannotated",
    "absent_weight": "losses#absent#weight",
    "ckpt_dir": "train#ckpt_dir",
    "common_bounds": "supervision#common_bounds",
    "common_case": "supervision#common_bounds#name",
    "common_num_cases": "supervision#common_bounds#num_cases",
    "copies": "train#copies",
    "crf_weight": "losses#crf#weight",
    "decided_slice_axis": "train#slice_axis",
    "default_bounds": "datalist#size_bounds",
    "entropy_weight": "losses#entropy#weight",
    "experiment_prefix": "supervision#prefix",
    "individual_size_weight": "size_weight",
    "num_validation": "datalist#num_validation",
    "num_workers": "train#dataloader#num_workers",
    "only_full": "supervision#only_full",
    "overlay_checks": "supervision#requirements",
    "per_item": "supervision#per_item",
    "size_scale": "loss#terms#size#loss#scale, or losses#size#loss#scale",
    "scribbles_complete": "train#scribbles_complete",
    "slice_wise": "supervision#per",
    "split_seed": "datalist#seed",
    "use_masks": "train#use_masks",
    "volume_transforms": "train#load and train#geometry",
    "watch_masks": "validate#watch_masks",
    "weak_labels": "train#weak_label",
}
"""Settings of earlier versions, and what they are called now."""


def guard_run(settings_repeated: bool = False) -> None:
    """Guard the run of a bundle's config. The first item of ``initialize``.

    A clear error ends in one line. Texts mean what was typed. A name that has no use is an error. Cases that another
    program hands over take the place of the data list.

    Args:
        settings_repeated: whether the settings of the training may be given again, though this run uses fewer of them.

    Raises:
        ConfigError: see :py:func:`use_what_was_typed` and :py:func:`check_names`.
    """
    install_clear_errors()
    use_what_was_typed()
    check_names(settings_repeated)
    _take_handed_over_cases(_workflow().parser)


# ---- the running workflow


def _frames() -> Iterator[FrameType]:
    """The call stack: MONAI gives an item of a config no other handle on the workflow that evaluates it."""
    return (frame for frame, _ in traceback.walk_stack(inspect.currentframe()))


def _workflow() -> ConfigWorkflow:
    """The workflow that evaluates the caller, an item of its config."""
    for frame in _frames():
        if isinstance(frame.f_locals.get("self"), ConfigWorkflow):
            return frame.f_locals["self"]
    raise RuntimeError("this must be run as an item of a bundle's config, such as one of `initialize`.")


def _given_to_run() -> dict[str, Any]:
    """What ``monai.bundle.run`` was given in place of the config files' values; a workflow keeps no list of it."""
    frame = next((frame for frame in _frames() if frame.f_code is run.__code__), None)
    return {} if frame is None else dict(frame.f_locals["override"])


# ---- names


def _strings(config: Any) -> Iterator[str]:
    if isinstance(config, str):
        yield config
    elif isinstance(config, (dict, list, tuple)):
        for value in config.values() if isinstance(config, dict) else config:
            yield from _strings(value)


def _references(config: Any) -> set[str]:
    """The ids that a config refers to."""
    return {reference for text in _strings(config) for reference in ReferenceResolver.match_refs_pattern(text)}


def _with_parents(ids: set[str]) -> set[str]:
    """Ids, each with its section and its item in that section."""
    return {ID_SEP_KEY.join(name.split(ID_SEP_KEY)[:depth]) for name in ids for depth in (1, 2)} | ids


def _workflow_ids() -> set[str]:
    """Ids by which MONAI's workflows, not another item, ask for a value."""
    # two lists: properties of the same name, such as the evaluator, have an id in each
    properties = [*TrainProperties.values(), *InferProperties.values()]
    return {ReferenceResolver.normalize_id(str(p[BundlePropertyConfig.ID])) for p in properties}


def unused_names(config: dict[str, Any]) -> dict[str, list[str]]:
    """Items that no other item refers to and that MONAI does not ask for, such as a misspelt override leaves.

    Args:
        config: a bundle's merged configuration.

    Returns:
        By unused id, the known ids spelt most like it. Ids of the top level and of plain sections, one level down.
    """
    used = _references(config) | _workflow_ids()
    known = ENTRY_POINTS | _with_parents(used)
    names = list(config)
    for section, content in config.items():
        if isinstance(content, dict) and "_target_" not in content and section not in ENTRY_POINTS | used:
            names += [f"{section}{ID_SEP_KEY}{child}" for child in content]
    return {name: difflib.get_close_matches(name, known, n=2) for name in names if name not in known}


def check_names(settings_repeated: bool = False) -> None:
    """Raise where the running bundle's configuration has a name without use.

    MONAI takes ``--epoch 1`` where the config says ``epochs`` without a word, and runs with the old value. A name that
    the bundle's own config files use is no mistake in itself: an overlay may replace the item that uses it.

    Args:
        settings_repeated: see :py:func:`guard_run`.

    Raises:
        ConfigError: names each unused id and the known one most like it, a setting of the caller without effect, one
            of another name than before, or a switch given as text.
    """
    workflow = _workflow()
    config = workflow.parser.get()
    # the command line gives `--resume false` as a text, and any text counts as true
    texts = [name for name, value in config.items() if isinstance(value, str) and value.lower() == "false"]
    if texts:
        raise ConfigError(
            f"found the text {config[texts[0]]!r} for {texts[0]!r}, expected True or False: "
            "write it with a capital, or leave it out."
        )
    unused = unused_names(config)
    files = [ConfigParser.load_config_file(str(file)) for file in workflow.config_root_path.glob("*.yaml")]
    of_bundle = _with_parents(set().union(*map(_references, files)))
    unknown = {name: close for name, close in unused.items() if name not in of_bundle}
    if unknown:
        lines = [f"  {name!r}" + _hint(name, close) for name, close in unknown.items()]
        raise ConfigError("the configuration or the command line names what nothing uses:\n" + "\n".join(lines))
    given = _with_parents({ReferenceResolver.normalize_id(name) for name in _given_to_run()})
    without_effect = sorted(unused.keys() & given)
    if without_effect and not settings_repeated:
        names = ", ".join(map(repr, without_effect))
        raise ConfigError(f"found a value for {names}, which these config files make no use of: leave it out.")


def _hint(name: str, close: Sequence[str]) -> str:
    """What may have been meant by a name."""
    renamed = RENAMED.get(name)
    if renamed is not None:
        return f" is now {renamed}."
    return f"; did you mean {' or '.join(map(repr, close))}?" if close else ""


def check_that(condition: bool, message: str) -> None:
    """Raise where overlays were combined that contradict each other. For a config's ``initialize``.

    Args:
        condition: what must hold.
        message: what is wrong where it does not.

    Raises:
        ConfigError: when it does not hold.
    """
    if not condition:
        raise ConfigError(message)


# ---- cases of another program


def is_handed_over(cases: Any) -> bool:
    """Whether another program has put its own cases in the place of a data list's.

    MONAI Label gives ``train#dataset#data`` as a list of images and masks without names, a data list names each case.

    Args:
        cases: the content of ``train#dataset#data``, or a section of a data list.
    """
    return isinstance(cases, list) and not all("case" in case for case in cases)


def _take_handed_over_cases(parser: ConfigParser) -> None:
    """Let cases of another program be the data list. Their masks hold the classes of the network, as inference writes
    them, and each such run gets a folder of its own."""
    sections = {"training": "train", "validation": "validate"}
    cases = {name: parser.get(f"{section}#dataset#data") for name, section in sections.items()}
    if not is_handed_over(cases["training"]):
        return
    if parser.get("datalist#weak_labels"):
        raise ConfigError(
            "found training cases that no data list names, expected a data list, which says what of them is annotated."
        )
    parser["datalist"] = {name: items if isinstance(items, list) else [] for name, items in cases.items()}
    parser["label_ids"] = parser["target_ids"] = "$list(range(@num_classes))"
    parser["experiment"] = time.strftime("handed_over_%Y%m%d_%H%M%S")


# ---- texts


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
    """Give the running bundle's settings the texts that were typed for them.

    Fire, MONAI's command line, cuts a text at ``#`` and makes numbers, lists and the like of others: a folder
    ``scans#2`` would be another one, ``20240115`` a number. MONAI then takes ``@home`` for a reference and ``$x`` for
    an expression. It takes ``%x`` for a macro before any item of a config can run: such a name is written ``./%x``.
    Settings that are texts get what was typed, and ``~`` in paths becomes the home folder. A reference to
    an item that the config has, and an expression of names that are known, mean what they mean to MONAI.

    Raises:
        ConfigError: when a text has no value or is none, or when Fire has cut the value of another setting.
    """
    parser = _workflow().parser
    typed = typed_settings(sys.argv)
    for name, text in typed.items():
        if text is not None and name not in TEXTS and "#" in text and "#" not in repr(DefaultParseValue(text)):
            raise ConfigError(
                f"{name} must be without '#', got {text!r}: all behind it would be dropped. Quote texts in it."
            )
    given = {**_given_to_run(), **typed}
    for name in TEXTS:
        if name not in parser:
            continue
        now = parser.get(name)
        value = _text(name, given.get(name, now), now)
        # `%name` and what a config file itself says are MONAI's to read; a macro has been replaced by now
        if not isinstance(value, str) or value.startswith("%"):
            continue
        if value.startswith(("$", "@")) and (name not in given or _is_of_monai(value, name, parser)):
            continue
        text = literal(os.path.expanduser(value) if name in PATHS else value)
        if text != now:
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


# ---- errors

CLEAR_ERRORS = (ConfigError, DataError, NonFiniteLogitsError, OutputDirError)
# what a machine, not a mistake in a program, answers to one that writes
MACHINE_ERRORS = frozenset(
    getattr(errno, name, None)
    for name in ("ENOSPC", "EDQUOT", "EFBIG", "EROFS", "EACCES", "EPERM", "EIO", "ENAMETOOLONG", "ENOTDIR")
)


def _clear_message(error: BaseException | None) -> str | None:
    """The line to show instead of an error's trace; None where the trace is needed."""
    causes: list[BaseException] = []
    while error is not None:
        causes.insert(0, error)
        error = error.__cause__ or error.__context__
    for cause in causes:
        if isinstance(cause, CLEAR_ERRORS):
            return f"{type(cause).__name__}: {cause}"
    for cause in causes:
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
