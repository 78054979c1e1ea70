"""Finds misspelt names in a bundle's configuration before anything runs."""

from __future__ import annotations

import difflib
import inspect
import traceback
from collections.abc import Iterator, Sequence
from typing import Any

from monai.bundle import ConfigParser, run
from monai.bundle.properties import InferProperties, TrainProperties
from monai.bundle.reference_resolver import ReferenceResolver
from monai.bundle.utils import ID_SEP_KEY
from monai.utils import BundlePropertyConfig

from sizeloss_monai.errors import ConfigError

__all__ = ["ConfigError", "cases_handed_over", "check_config", "check_that", "unused_names"]

ENTRY_POINTS = frozenset({"_meta_", "_requires_", "imports", "initialize", "run", "finalize"})


def _strings(config: Any) -> Iterator[str]:
    if isinstance(config, str):
        yield config
    elif isinstance(config, dict):
        for value in config.values():
            yield from _strings(value)
    elif isinstance(config, (list, tuple)):
        for value in config:
            yield from _strings(value)


def _workflow_ids() -> set[str]:
    """Ids by which MONAI's workflows, not another item, ask for a value."""
    # two lists: properties of the same name, such as the evaluator, have an id in each
    properties = [*TrainProperties.values(), *InferProperties.values()]
    return {ReferenceResolver.normalize_id(str(p[BundlePropertyConfig.ID])) for p in properties}


def unused_names(config: dict[str, Any], also_known: Sequence[str] = ()) -> dict[str, list[str]]:
    """Items that nothing refers to and that MONAI does not ask for: what a misspelt override leaves behind.

    Args:
        config: a bundle's merged configuration.
        also_known: further names that are no mistake.

    Returns:
        By unused id, the known ids spelt most like it. Ids of the top level and of plain sections, one level down.
    """
    referred = {ref for text in _strings(config) for ref in ReferenceResolver.match_refs_pattern(text)}
    referred |= _workflow_ids() | {ReferenceResolver.normalize_id(name) for name in also_known}
    known = ENTRY_POINTS.union(*({r, r.split(ID_SEP_KEY)[0]} for r in referred))
    known |= {ID_SEP_KEY.join(r.split(ID_SEP_KEY)[:2]) for r in referred}
    names = list(config)
    for section, content in config.items():
        whole = section in referred
        if isinstance(content, dict) and "_target_" not in content and section not in ENTRY_POINTS and not whole:
            names += [f"{section}{ID_SEP_KEY}{child}" for child in content]
    return {name: difflib.get_close_matches(name, known, n=2) for name in names if name not in known}


def running_parser() -> ConfigParser:
    """The parser that is evaluating the caller: MONAI gives an item of a config no other handle on it."""
    for frame, _ in traceback.walk_stack(inspect.currentframe()):
        candidate = frame.f_locals.get("self")
        if isinstance(candidate, ConfigParser):
            return candidate
    raise RuntimeError("this must be run as an item of a bundle's config, such as one of `initialize`.")


def given_to_run() -> dict[str, Any]:
    """What ``monai.bundle.run`` was given in place of the config files' values; a workflow keeps no list of it."""
    for frame, _ in traceback.walk_stack(inspect.currentframe()):
        if frame.f_code is run.__code__:
            return dict(frame.f_locals["override"])
    return {}


def _overridden() -> set[str]:
    """Ids that ``monai.bundle.run`` was given values for, and those above them."""
    parts = [ReferenceResolver.normalize_id(name).split(ID_SEP_KEY) for name in given_to_run()]
    return {ID_SEP_KEY.join(part[:end]) for part in parts for end in range(1, len(part) + 1)}


def check_config(also_known: Sequence[str] = (), optional: Sequence[str] = ()) -> None:
    """Raise where the running bundle's configuration has a name nobody uses. For a config's ``initialize``.

    MONAI takes ``--epoch 1`` where the config says ``epochs`` without a word, and runs with the old value.

    Args:
        also_known: names that are no mistake although nothing refers to them.
        optional: likewise, but only as long as neither the command line nor a caller of ``monai.bundle.run`` gives them
            a value, which would have no effect: settings that some overlays use.

    Raises:
        ConfigError: names each unused id and the known one most like it, or a switch given as text.
    """
    config = running_parser().get()
    # the command line gives `--resume false` as a text, and any text counts as true
    texts = [name for name, value in config.items() if isinstance(value, str) and value.lower() == "false"]
    if texts:
        raise ConfigError(
            f"found the text {config[texts[0]]!r} for {texts[0]!r}, expected True or False: "
            "write it with a capital, or leave it out."
        )
    unused = unused_names(config, [*also_known, *optional])
    without_effect = unused_names(config, also_known).keys() & _overridden() - unused.keys()
    if without_effect:
        names = ", ".join(map(repr, sorted(without_effect)))
        raise ConfigError(f"found a value for {names}, which these config files make no use of: leave it out.")
    if unused:
        lines = [
            f"  {name!r}" + (f"; did you mean {' or '.join(map(repr, close))}?" if close else "")
            for name, close in unused.items()
        ]
        raise ConfigError("the configuration or the command line names what nothing uses:\n" + "\n".join(lines))


def cases_handed_over(data_id: str = "train#dataset#data") -> bool:
    """Whether another program has put its own cases in the place of a data list's. For a config.

    MONAI Label does so: it gives ``monai.bundle.run`` a list of images and masks, without names. The config is looked
    at as it is written: to evaluate the item would open the data list, which there need not be.

    Args:
        data_id: the item's id.

    Returns:
        Whether it is a list, not an expression, of which not every case has a ``case``.
    """
    cases = running_parser().get(data_id)
    return isinstance(cases, list) and not all("case" in case for case in cases)


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
