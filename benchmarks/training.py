"""`python -m benchmarks.training`: training speed of this project, of other programs, and the limit of the machine.

Needs requirements/benchmarks.txt. Each trial runs in a process of its own (contenders.py); the programs take turns,
and the table shows medians. Run it on an idle machine: all processes get OMP_WAIT_POLICY=active.
Writes docs/performance/training.{csv,md} and docs/images/speed.png.
Options: --mirror (address or folder of MNIST's files), --repeat, --only NETWORK.
"""

import json
import os
import sys
import tempfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psutil
import torch

from stages.autoencoder.core import files
from stages.autoencoder.core.errors import UserError
from stages.autoencoder.figures import style
from stages.runtime.command import run_main
from tools.workspace import commands
from tools.workspace.arguments import ArgumentParser
from tools.workspace.copies import ROOT
from tools.workspace.params_file import write_params

TABLE = Path("docs/performance/training.csv")
NOTES = Path("docs/performance/training.md")
CHART = Path("docs/images/speed.png")
PROGRAMS = ("ours fp32", "textbook fp32", "pythae fp32", "lightning fp32", "ours bf16")
OURS = ("ours", "muon")  # this project's loop: with AdamW, and with its default optimizer
TRIALS = {  # {network: (program, epochs) of each trial in a turn}; the first one has the epochs of the other programs
    "small": (*((program, 3) for program in PROGRAMS), ("ours fp32", 2)),
    "conv": (*((program, 1) for program in PROGRAMS), ("muon fp32", 1), ("pythae fp32", 4)),
    "deep": (("ours fp32", 3), ("ours bf16", 3)),
    "deep-256": (("ours fp32", 3), ("ours bf16", 3)),
}
TITLES = {
    "small": "mlp 784-512-16",
    "conv": "conv 16-32-64, 256, 16",
    "deep": "mlp 784-1000-500-250-30",
    "deep-256": "the same, batch 256",
}
MAX_BUSY_PERCENT = 10  # of the cores; times measured above it mean little
KEY_COLUMNS = ["network", "program", "precision", "epochs"]  # together they identify a row


def main() -> None:
    parser = ArgumentParser(
        prog="python -m benchmarks.training",
        description="Compare training speed with other programs and with the machine's limit.",
    )
    parser.add_argument("--mirror", help="address or folder of MNIST's files, tried before torchvision's mirrors")
    parser.add_argument("--repeat", type=int, default=3, help="trials of each program (default: 3)")
    parser.add_argument(
        "--only", choices=TRIALS, action="append", help="measure only this network; the others keep their rows"
    )
    options = parser.parse_args()
    if options.repeat < 1:
        raise UserError(f"benchmarks.training: --repeat must be at least 1; got {options.repeat}")
    if missing := [name for name in ("pythae", "pytorch_lightning") if not find_spec(name)]:
        raise UserError(f"benchmarks.training: {missing[0]} is missing; pip install -r requirements/benchmarks.txt")
    if (busy := psutil.cpu_percent(2)) > MAX_BUSY_PERCENT:
        print(f"benchmarks.training: {busy:.0f} % of the cores are in use: times mean little", file=sys.stderr)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_params(
            folder / "params.yaml",
            {"numerics": "fast", "train.optimizer": "adamw", "train.augment.max_images": 0},
            source=ROOT / "params.yaml",
        )
        run_in_child("fetch_mnist(sys.argv[1] or None)", options.mirror or "", folder=folder)
        trials = pd.DataFrame(run_trials(folder, options.only or list(TRIALS), options.repeat))
    table = summarise(trials)
    if options.only and TABLE.exists():
        earlier = pd.read_csv(TABLE)
        table = pd.concat([earlier[~earlier["network"].isin(options.only)], table])
    table = table.sort_values("network", key=lambda names: names.map(list(TRIALS).index), kind="stable")
    files.write(TABLE, table.to_csv(index=False).encode())
    files.write(NOTES, (to_markdown(table) + "\n").encode())
    save_chart(CHART, table)
    print(to_markdown(table))


def run_in_child(call: str, *arguments: str, folder: Path) -> str:
    """Call a function of benchmarks.contenders in a new process, and return what it prints.

    call: Python code such as "fetch_mnist(sys.argv[1])". arguments: of that process. folder: where it runs; the
    params.yaml there sets the numerics.
    """
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_WAIT_POLICY": "active"}
    imports = "import sys; import stages.runtime.numerics; from benchmarks import contenders"
    code = f"{imports}; from stages.runtime.command import run_main; run_main(lambda: contenders.{call})"
    command = [sys.executable, "-c", code, *arguments]
    return commands.run(command, cwd=folder, env=environment, place=f"benchmarks.training: {call.partition('(')[0]}")


def run_trials(folder: Path, networks: list[str], repeat: int) -> Iterator[dict[str, Any]]:
    """A row for each trial: turn, network, program, precision, epochs, and the measurements of the contender.

    Trials in bf16 are left out on a CPU that has no instructions for it.
    """
    call = "train_and_report(*sys.argv[1:4], int(sys.argv[4]))"
    has_bf16 = torch.ops.mkldnn._is_mkldnn_bf16_supported()  # without such instructions bf16 is ten times slower
    for turn in range(repeat):
        for network in networks:
            trials = [trial for trial in TRIALS[network] if has_bf16 or not trial[0].endswith("bf16")]
            first = turn % len(trials)  # each trial comes first in turn, since speed depends on what ran before
            for program, epochs in trials[first:] + trials[:first]:
                name, precision = program.split()
                printed = run_in_child(call, name, network, precision, str(epochs), folder=folder)
                report = json.loads(printed.strip().splitlines()[-1])
                print(f"{turn + 1}/{repeat} {network} {program}: {report['seconds']:.1f} s", file=sys.stderr)
                labels = {"turn": turn, "network": network, "program": name, "precision": precision, "epochs": epochs}
                yield {**labels, **report}


def summarise(trials: pd.DataFrame) -> pd.DataFrame:
    """Medians for each network, program, precision and number of epochs.

    speed: images per second. mse: per pixel of the test images. memory: peak MiB.
    ratio: the speed of our fp32 over the speed of the row.
    time_to_equal_error: the seconds of the row over those of the shortest of our trainings in fp32, with AdamW or Muon,
    that reach the error of the row or a lower one; NaN if none does.
    Both ratios are medians of the ratios within a turn, since the machine's speed drifts.
    machine_limit: images per second at the best rate of any product (gflops). share: speed over machine_limit, both
    measured in the same process. Only our rows have these three.
    """
    rows = []
    trials = trials.assign(speed=trials["images"] / trials["seconds"])
    trials = trials.sort_values("epochs", ascending=False, kind="stable")
    in_fp32 = trials[trials["precision"] == "fp32"]
    ours, any_of_ours = in_fp32[in_fp32["program"] == "ours"], in_fp32[in_fp32["program"].isin(OURS)]
    for labels, group in trials.groupby(KEY_COLUMNS, sort=False):
        row: dict[str, Any] = dict(zip(KEY_COLUMNS, labels, strict=True))
        row |= group[["seconds", "speed", "mse", "memory"]].median().to_dict()
        reference = ours[ours["network"] == row["network"]]
        row["ratio"] = median_ratio(keep_full_epochs(reference, "turn"), group, "speed")
        row["time_to_equal_error"] = median_ratio(
            group, find_shortest(any_of_ours, row["network"], row["mse"]), "seconds"
        )
        if row["program"] in OURS:
            best_rate = np.array([max(max(rate[3:]) for rate in rates) for rates in group["rates"]])
            machine_limit = 1e9 * best_rate / group["operations"]
            row |= {"gflops": np.median(best_rate), "machine_limit": machine_limit.median()}
            row["share"] = (group["speed"] / machine_limit).median()
        rows.append({**row, "trials": len(group)})
    return pd.DataFrame(rows)


def find_shortest(trials: pd.DataFrame, network: str, mse: float) -> pd.DataFrame:
    """Of a network's trials those of the program and epochs that reach this error in the shortest time; or none."""
    trials = trials[trials["network"] == network]
    medians = trials.groupby(["program", "epochs"])[["seconds", "mse"]].median()
    reaching = medians[medians["mse"] <= mse]
    if reaching.empty:
        return trials[:0]
    program, epochs = reaching["seconds"].idxmin()
    return trials[(trials["program"] == program) & (trials["epochs"] == epochs)]


def median_ratio(trials: pd.DataFrame, others: pd.DataFrame, column: str) -> float:
    """The median over the turns of a column's ratio, `trials` over `others`; NaN if `others` is empty."""
    return float((trials.set_index("turn")[column] / others.set_index("turn")[column]).median())


def keep_full_epochs(table: pd.DataFrame, *more_columns: str) -> pd.DataFrame:
    """The first row of each network, program and precision, which has the most epochs.

    more_columns: also tell rows apart.
    """
    return table.drop_duplicates(["network", "program", "precision", *more_columns])


def to_markdown(table: pd.DataFrame) -> str:
    """The table for readers, as in docs/performance.md."""
    columns = {
        "network": table["network"].map(TITLES),
        "program": table["program"] + " " + table["precision"],
        "epochs": table["epochs"],
        "seconds": table["seconds"].map("{:.1f}".format),
        "images/s": table["speed"].map("{:,.0f}".format),
        "ours fp32 is faster by": table["ratio"].map("{:.2f}".format),
        "time to equal test error, ours = 1": format_known(table["time_to_equal_error"], "{:.2f}"),
        "limit, images/s": format_known(table["machine_limit"], "{:,.0f}"),
        "share of the limit": format_known(table["share"], "{:.0%}"),
        "test MSE": table["mse"].map("{:.5f}".format),
        "peak memory, MiB": table["memory"].map("{:,.0f}".format),
    }
    return pd.DataFrame(columns).to_markdown(index=False, disable_numparse=True)


def format_known(values: pd.Series, form: str) -> list[str]:
    """Each value as text; NaN as an empty text."""
    return ["" if np.isnan(value) else form.format(value) for value in values]


def save_chart(path: Path, table: pd.DataFrame) -> None:
    """Draw bars of images per second for each network; a black line marks the machine's limit for our program."""
    networks = list(dict.fromkeys(table["network"]))
    with style.drawing(path, 9, 1.2 + 0.45 * len(keep_full_epochs(table))) as figure:
        heights = [len(keep_full_epochs(table[table["network"] == name])) for name in networks]
        panels = figure.subplots(len(networks), 1, height_ratios=heights, squeeze=False)[:, 0]
        for axes, network in zip(panels, networks, strict=True):
            rows = keep_full_epochs(table[table["network"] == network])
            labels = rows["program"] + " " + rows["precision"]
            colours = [style.COLOURS[0] if name in OURS else style.COLOURS[1] for name in rows["program"]]
            bars = axes.barh(labels, rows["speed"], color=colours, height=0.7)
            axes.bar_label(bars, [f"{value:,.0f}" for value in rows["speed"]], padding=3)
            for position, machine_limit in enumerate(rows["machine_limit"]):
                if not np.isnan(machine_limit):
                    axes.plot([machine_limit] * 2, [position - 0.4, position + 0.4], color=style.INK, linewidth=2)
            axes.invert_yaxis()
            axes.set_title(TITLES[network])
            axes.margins(x=0.12)
            axes.tick_params("y", length=0)
        panels[-1].set_xlabel("training images per second; black: the limit")


if __name__ == "__main__":
    run_main(main)
