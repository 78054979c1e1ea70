"""Train, evaluate and tabulate the experiments of a table of the paper.

Runs that are finished are not run again, whichever table needed them; interrupted ones go on from their last epoch:

    python -m scripts.experiments.reproduce --table 1 --protocol small --data_dir data
    # mean and deviation over seeds
    python -m scripts.experiments.reproduce --table 1 2 4 --seeds 0 1 2 --data_dir data
    # one job a line, for any scheduler
    python -m scripts.experiments.reproduce --table 1 --data_dir data --print
    # tables and figures of what is finished
    python -m scripts.experiments.reproduce --table 1 --collect

--data_dir holds a folder for each data set: acdc, promise12, vertebral, Task04_Hippocampus. Table 5, of times, is
made by benchmark_step and benchmark_growth beside this module.
"""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys
from pathlib import Path

from scripts import ROOT
from scripts.experiments.figures import draw_figures
from scripts.experiments.result_files import refresh_documents
from scripts.experiments.result_tables import write_tables
from scripts.experiments.tables import PROTOCOLS, TABLES, Run, Setting, load_table


def unique_runs(tables: list[str], seeds: list[int], rows: list[str] | None) -> list[Run]:
    """The runs of some tables, each once, in order; of ``rows`` only where they are given."""
    runs = [
        Run(row.run, load_table(table).dataset, seed)
        for seed in seeds
        for table in tables
        for row in load_table(table).rows
        if rows is None or row.run in rows
    ]
    return list(dict.fromkeys(runs))


def call(arguments: list[str]) -> None:
    """Run a command in the project's folder, with this interpreter; stop at the first that fails."""
    print("+", shlex.join(arguments), flush=True)
    subprocess.run([sys.executable, *arguments[1:]], cwd=ROOT, check=True)


def main() -> None:
    """Parse the command line, run what is missing, tabulate and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", nargs="+", choices=TABLES, default=["1"])
    parser.add_argument("--protocol", choices=PROTOCOLS, default="small")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--rows", nargs="+", default=None, help="names of runs; default: all of the table")
    parser.add_argument("--epochs", type=int, default=None, help="default: the protocol's own")
    parser.add_argument("--data_dir", type=Path, default=Path("data"))
    parser.add_argument("--runs_dir", type=Path, default=ROOT / "runs")
    parser.add_argument("--results_dir", type=Path, default=ROOT / "docs" / "results")
    parser.add_argument("--print", action="store_true", help="print the jobs, one a line; run nothing")
    parser.add_argument("--collect", action="store_true", help="tabulate and draw finished runs; run nothing")
    args = parser.parse_args()
    # the commands are run in the project's folder
    setting = Setting(args.protocol, args.data_dir.resolve(), args.runs_dir.resolve(), args.epochs)
    runs = unique_runs(args.table, args.seeds, args.rows)
    unknown = set(args.rows or []) - {run.name for run in runs}
    if unknown:
        parser.error(f"no such row in table {', '.join(args.table)}: {', '.join(sorted(unknown))}")
    if args.print:
        for run in runs:
            print(shlex.join(run.command(setting)), "&&", shlex.join(run.command(setting, evaluate=True)))
        return
    if not args.collect:
        absent = sorted({str(run.data_folder(setting)) for run in runs if not run.data_folder(setting).is_dir()})
        if absent:
            parser.error(f"no such folder: {', '.join(absent)}; --data_dir must hold it")
        for run in runs:
            if not run.is_evaluated(setting):
                call(run.command(setting))
                call(run.command(setting, evaluate=True))
    for name in args.table:
        write_tables(load_table(name), setting, args.seeds, args.results_dir)
        draw_figures(load_table(name), setting, args.seeds[0], args.results_dir)
    refresh_documents()


if __name__ == "__main__":
    main()
