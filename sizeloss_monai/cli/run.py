"""The commands ``train``, ``evaluate`` and ``predict``: each stands for one line of ``python -m monai.bundle run``."""

from __future__ import annotations

import argparse
import logging
import os
import runpy
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from sizeloss_monai.cli.bundles import find_bundle, find_overlay, has_weights, shown
from sizeloss_monai.errors import DataError

__all__ = ["add", "run_bundle"]

Settings = dict[str, "str | None"]
"""Overrides of a config by name, as texts; None where a name was typed without a value."""

_SETTINGS = "Any other --name value overrides this item of the bundle's config, such as --{}."
_OF_ONE_START = ("config_file", "resume", "tracking", "run_id", "init_id", "final_id", "section", "output_dir")
"""Settings of a training that its evaluation does not take over."""
_OF_ONE_PROGRAM = frozenset(
    ["imports", "initialize", "run", "finalize", "device", "resume", "bundle_root", "dataset_dir", "output_dir"]
) | {"checkpoint", "decided_slice_axis"}
"""Items of train.yaml and inference.yaml that say nothing of the network."""


def add(commands: argparse._SubParsersAction) -> None:
    """Add the commands ``train``, ``evaluate`` and ``predict``."""
    train = _add(
        commands, "train", "train a network", _train, "epochs 20", "Print the line of monai.bundle and run it."
    )
    train.add_argument("bundle", metavar="BUNDLE", help="a name that 'list' shows, or the path of a bundle's folder")
    train.add_argument(
        "--supervision", nargs="+", action="extend", default=[], metavar="NAME",
        help="what the network learns from: names that 'list' shows, or config files, in this order",
    )  # fmt: skip
    train.add_argument("--protocol", metavar="NAME", help="resolution, network and epochs: a name, or a config file")
    train.add_argument("--output_dir", help="folder of the run; default: runs/BUNDLE/EXPERIMENT")
    train.add_argument("--resume", action="store_true", help="go on from the last checkpoint in the folder of the run")

    text = "Score the last checkpoint of a run, with the settings that its run.json holds."
    evaluate = _add(commands, "evaluate", "score a trained network", _evaluate, "device cpu", text)
    evaluate.add_argument("run_dir", metavar="RUN", help="folder of the run (its output_dir)")
    evaluate.add_argument("--section", help="of the data list: training, validation or test; default: validation")
    evaluate.add_argument("--resume", action="store_true", help="replace the results of an earlier evaluation")

    text = "Segment scans with the best weights of a run, or with a bundle's released ones."
    predict = _add(commands, "predict", "segment scans", _predict, "one_piece []", text)
    predict.add_argument("run_dir", metavar="RUN", help="folder of the run, or the name of a bundle with weights")
    predict.add_argument("scan", metavar="SCAN", help="a NIfTI, MetaImage or NRRD file, or a folder of them")
    predict.add_argument("--output_dir", default="predictions", help="folder of the masks; default: predictions")
    predict.add_argument("--resume", action="store_true", help="write into a folder that holds masks already")


def _add(
    commands: argparse._SubParsersAction, name: str, help_text: str, run: Any, example: str, text: str
) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        name, help=help_text, description=f"{text} {_SETTINGS.format(example)}", allow_abbrev=False
    )
    parser.set_defaults(run=run, parser=parser, takes_settings=True)
    return parser


def _train(args: argparse.Namespace) -> None:
    settings = _typed(args)
    configs = find_bundle(args.bundle) / "configs"
    files = [configs / "train.yaml"]
    if args.protocol:
        files.append(find_overlay(args.protocol, "protocol"))
    files += [find_overlay(name, "supervision") for name in args.supervision]
    run_bundle([shown(_existing(file)) for file in files], settings)


def _evaluate(args: argparse.Namespace) -> None:
    typed = _typed(args)
    run = _read_run(args.run_dir, "evaluate.yaml as the last file, and its settings")
    kept = {name: value for name, value in run.settings.items() if name not in _OF_ONE_START}
    files = [*run.files, shown(_existing(run.configs / "evaluate.yaml"))]
    run_bundle(files, {**kept, "output_dir": args.run_dir, **typed})


def _predict(args: argparse.Namespace) -> None:
    typed = _typed(args)
    settings: Settings = {"dataset_dir": args.scan}
    if (Path(args.run_dir) / "run.json").is_file():
        run = _read_run(args.run_dir, "inference.yaml, --checkpoint, --pixdim, --slice_size and --num_classes")
        inference, weights = _existing(run.configs / "inference.yaml"), Path(args.run_dir, "checkpoints", "model.pt")
        settings |= _trained_settings(run, inference, typed)
        settings["checkpoint"] = str(weights)
        print(f"weights: {weights}{_chosen_epoch(Path(args.run_dir), run.noted.get('key_metric'))}")
    else:
        bundle = find_bundle(args.run_dir)
        if not has_weights(bundle) and "checkpoint" not in typed:
            raise DataError(
                f"bundle: found no weights in '{shown(bundle)}', expected models/model.pt. Train it, then give the run."
            )
        inference = _existing(bundle / "configs" / "inference.yaml")
        if Path("bundles", bundle.name).resolve() != bundle.resolve():
            settings["bundle_root"] = str(bundle)
    run_bundle([shown(inference)], {**settings, **typed})


def _typed(args: argparse.Namespace) -> Settings:
    """The settings on the command line, those that the command itself knows among them."""
    settings: Settings = {
        name: getattr(args, name) for name in ("section", "output_dir") if getattr(args, name, None) is not None
    }
    if args.resume:
        settings["resume"] = "True"
    words = list(args.settings)
    while words:
        word = words.pop(0)
        name, equals, text = word[2:].partition("=")
        if not word.startswith("--") or not name:
            args.parser.error(f"found '{word}', expected settings as --name value, after the other arguments.")
        value = text if equals else words.pop(0) if words and not words[0].startswith("--") else None
        name = name.replace("-", "_")
        if name == "config_file":
            args.parser.error("config files are chosen by BUNDLE, --protocol and --supervision.")
        settings[name] = {"true": "True", "false": "False"}.get(value, value) if value else value
    return settings


class _Run(NamedTuple):
    """What ``run.json`` says of a training's last start: its config files, typed settings and all that was noted."""

    files: list[str]
    settings: Settings
    noted: Mapping[str, Any]

    @property
    def configs(self) -> Path:
        """The folder of the bundle's configs."""
        return Path(self.files[0]).parent


def _read_run(run_dir: str, by_hand: str) -> _Run:
    """The settings of a run.

    Args:
        run_dir: its folder.
        by_hand: what to give to ``python -m monai.bundle run`` where they cannot be read.

    Raises:
        DataError: when there is no such run, ``run.json`` is damaged or of another program, or a config file is gone.
    """
    from sizeloss_monai.bundle.guard import PATHS, typed_settings
    from sizeloss_monai.bundle.run_record import read_starts

    start = read_starts(Path(run_dir))[-1]
    command = start.get("command")
    settings = typed_settings(command) if isinstance(command, list) and command else {}
    files = _read_by_fire(settings.get("config_file"))
    files = files.split(",") if isinstance(files, str) else list(files or [])
    if not files:
        raise DataError(
            f"'{run_dir}/run.json': found no line of 'monai.bundle run' with --config_file, expected that of the "
            f"training. Run 'python -m monai.bundle run' by hand, with {by_hand}."
        )
    folder = start.get("working_folder", os.getcwd())
    if os.path.realpath(folder) != os.path.realpath(os.getcwd()):  # paths in the line are relative to that folder
        files = [shown(os.path.join(folder, file)) for file in files]
        for name in (*PATHS, "logging_file", "meta_file"):
            value = settings.get(name)
            if value and not value.startswith(("$", "@", "%", "~")):
                settings[name] = shown(os.path.join(folder, value))
    missing = [file for file in files if not Path(file).is_file()]
    if missing:
        raise DataError(
            f"'{run_dir}/run.json': found no config file '{missing[0]}', expected that of the training. Work "
            f"in the folder where the training started, or run 'python -m monai.bundle run' by hand, with {by_hand}."
        )
    files = [file for file in files if Path(file).name != "multi_gpu_train.yaml"]  # for torchrun's processes
    return _Run(files, settings, start)


def _existing(file: Path) -> Path:
    if not file.is_file():
        raise DataError(f"config file: found no '{shown(file)}', expected it in the bundle's folder.")
    return file


def _trained_settings(run: _Run, inference: Path, typed: Settings) -> Settings:
    """The items of inference.yaml that the training has with other values.

    Raises:
        DataError: when the training computed a value that ``run.json`` does not hold.
    """
    from monai.bundle import ConfigParser

    overrides = {name: True if text is None else _read_by_fire(text) for name, text in run.settings.items()}
    trained, default = ConfigParser(), ConfigParser()
    trained.read_config(run.files)
    trained.update({name: value for name, value in overrides.items() if name != "config_file"})
    default.read_config(str(inference))
    for parser in (trained, default):
        parser.resolve_macro_and_relative_ids()
    noted = {**run.noted, **run.noted.get("grid", {})}
    settings: Settings = {}
    for name in default.get().keys() - _OF_ONE_PROGRAM - typed.keys():
        value = trained.get(name, default[name])
        if value != default[name] and any(reference not in default for reference in _references(value)):
            if name not in noted:
                raise DataError(
                    f"'{name}' must be given as --{name}: run.json does not hold what the training computed ({value})."
                )
            value = noted[name]
        if value != default[name]:
            settings[name] = _for_fire(value)
    return dict(sorted(settings.items()))


def _references(value: Any) -> Iterator[str]:
    from monai.bundle.reference_resolver import ReferenceResolver

    if isinstance(value, str):
        yield from ReferenceResolver.match_refs_pattern(value)
    elif isinstance(value, (dict, list)):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _references(part)


def _read_by_fire(text: str | None) -> Any:
    """A value as MONAI's command line reads it."""
    from fire.parser import DefaultParseValue

    return None if text is None else DefaultParseValue(text)


def _for_fire(value: Any) -> str:
    """The text that MONAI's command line reads as this value, neither cut at ``#`` nor made a number."""
    return value if isinstance(value, str) and _read_by_fire(value) == value else repr(value)


def _chosen_epoch(run_dir: Path, metric: str | None) -> str:
    """Which epoch the best weights of a run are from, as far as its folder tells."""
    if metric is None:
        return ""
    try:
        from sizeloss_monai.report.curves import best_epoch, read_curves, read_events
    except ImportError:  # without the extra [report]
        return f", best by {metric}"
    epoch = best_epoch(read_curves(read_events(run_dir)), metric)
    return f", best by {metric}" + (f": epoch {epoch}" if epoch else "")


def run_bundle(files: Sequence[str], settings: Mapping[str, str | None]) -> None:
    """Print a line of ``python -m monai.bundle run``, and run in this process what it would.

    Args:
        files: the config files.
        settings: overrides by name, as typed.
    """
    from sizeloss_monai.bundle.run_record import shell_line

    words = ["run", "--config_file", "[" + ",".join(map(repr, files)) + "]"]
    for name, value in settings.items():
        if value is None or (value.startswith("-") and not value[1:2].isdigit()):
            words.append(f"--{name}" if value is None else f"--{name}={value}")
        else:
            words += [f"--{name}", value]
    print(f"python -m monai.bundle {shell_line(words)}", flush=True)
    argv, path = sys.argv, sys.path[:]
    sys.argv, sys.path[:0] = ["", *words], [os.getcwd()]  # as `python -m` has them
    try:
        with _quiet():
            runpy.run_module("monai.bundle", run_name="__main__", alter_sys=True)
    finally:
        sys.argv, sys.path[:] = argv, path


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep what MONAI and Ignite log below a warning from the live line; the package's own notes stay."""
    import monai.bundle  # noqa: F401 - it makes loggers with a level of their own

    def is_warning(record: logging.LogRecord) -> bool:
        # MONAI warns of overlays that lie outside the bundle's folder, as ours do
        return record.levelno >= logging.WARNING and not record.getMessage().startswith("Not all config files")

    libraries = ("monai", "ignite")
    names = [name for name in logging.root.manager.loggerDict if name.split(".")[0] in libraries]
    loggers = [logging.getLogger(name) for name in {*libraries, *names}]
    levels = [logger.level for logger in loggers]
    # StatsHandler's: it warns of a higher level
    filtered = [logging.getLogger(name) for name in ("train", "validate", "evaluate", "monai.bundle.workflows")]
    try:
        for logger in loggers:
            logger.setLevel(max(logger.level, logging.WARNING))
        for logger in filtered:
            logger.addFilter(is_warning)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="parsing config_file")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        for logger in filtered:
            logger.removeFilter(is_warning)
