"""The experiments that tables.yaml lists: what each is called, where it lies, and the commands that make it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from scripts import ROOT

SPECIFICATION = yaml.safe_load((Path(__file__).parent / "tables.yaml").read_text())
PROTOCOLS = ("small", "paper")
TABLES = tuple(SPECIFICATION["tables"])


@dataclass(frozen=True)
class Setting:
    """What all runs of one call share.

    Args:
        protocol: ``small`` or ``paper``.
        data_dir: holds a folder for each data set.
        runs_dir: where runs go; by default ``runs`` in the project's folder.
        epochs: None for the protocol's own number.
    """

    protocol: str
    data_dir: Path
    runs_dir: Path = ROOT / "runs"
    epochs: int | None = None

    @property
    def name(self) -> str:
        """Of results: the protocol, and the number of epochs where it is not the protocol's."""
        return self.protocol if self.epochs is None else f"{self.protocol}_{self.epochs}_epochs"


@dataclass(frozen=True)
class Run:
    """One training and its evaluation; rows of several tables may share it.

    Args:
        name: in ``tables.yaml``.
        dataset: likewise.
        seed: of the training.
    """

    name: str
    dataset: str
    seed: int

    def folder(self, setting: Setting) -> Path:
        """Where it goes."""
        return setting.runs_dir / f"{setting.name}-seed{self.seed}" / self.dataset / self.name

    def data_folder(self, setting: Setting) -> Path:
        """Where its data are."""
        return setting.data_dir / str(SPECIFICATION["datasets"][self.dataset]["folder"])

    def is_evaluated(self, setting: Setting) -> bool:
        """Whether its scores are there."""
        return (self.folder(setting) / "evaluation" / "validation" / "metrics.csv").is_file()

    def command(self, setting: Setting, evaluate: bool = False) -> list[str]:
        """The command, to be run in the project's folder, that trains it or evaluates it on the validation cases."""
        dataset = SPECIFICATION["datasets"][self.dataset]
        configs = f"bundles/{dataset['bundle']}/configs"
        chosen = SPECIFICATION["runs"][self.name]
        files = [f"{configs}/train.yaml"]
        files += [f"configs/protocols/{name}.yaml" for name in dataset[setting.protocol]]
        files += [f"configs/supervision/{name}.yaml" for name in chosen.get("overlays", [])]
        files += [f"{configs}/evaluate.yaml"] * evaluate
        options: dict[str, Any] = {
            "dataset_dir": self.data_folder(setting),
            "output_dir": self.folder(setting),
            "seed": self.seed,
            "resume": "true",
            **chosen.get("options", {}),
        }
        if setting.epochs is not None:
            options["epochs"] = setting.epochs
        listed = "[" + ",".join(f"'{file}'" for file in files) + "]"
        flags = [part for key, value in options.items() for part in (f"--{key}", str(value))]
        return ["python", "-m", "monai.bundle", "run", "--config_file", listed, *flags]


@dataclass(frozen=True)
class Row:
    """A line of a table.

    Args:
        run: its name.
        title: as printed.
        paper: the DSC printed in the paper, where it is known to us.
        full: number of fully annotated volumes, in Table 2.
    """

    run: str
    title: str
    paper: float | None = None
    full: int | None = None


@dataclass(frozen=True)
class Table:
    """A table of the paper, or one like it.

    Args:
        name: ``"1"``, …
        title: one line.
        dataset: of all its rows.
        rows: in order.
    """

    name: str
    title: str
    dataset: str
    rows: tuple[Row, ...]


def load_table(name: str) -> Table:
    """The table of that name in ``tables.yaml``."""
    table = SPECIFICATION["tables"][name]
    return Table(name, table["title"], table["dataset"], tuple(Row(**row) for row in table["rows"]))
