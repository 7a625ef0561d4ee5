"""`python -m tools.benchmark`: training speed beside other programs and beside the limit of the machine.

Needs requirements-benchmark.txt. Every trial is a process of its own (peers.py), the programs take turns, and
medians count. Run it on an idle machine. Writes docs/performance/training.{csv,md} and docs/images/speed.png.
All processes get OMP_WAIT_POLICY=active: nothing else is to use the cores.
Options: --mirror (address or folder of MNIST's files), --repeat, --only NETWORK.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
from ruamel.yaml import YAML

from stages.autoencoder import arrays, figures
from stages.autoencoder.errors import UserError, run
from tools import ENVIRONMENT

ROOT = Path(__file__).resolve().parent.parent
TABLE, NOTES, CHART = (
    Path("docs/performance/training.csv"),
    Path("docs/performance/training.md"),
    Path("docs/images/speed.png"),
)
PROGRAMS = ("ours fp32", "textbook fp32", "pythae fp32", "lightning fp32", "ours bf16")
TRIALS = {  # network: epochs of each program, the peers' first
    "small": (*((name, 3) for name in PROGRAMS), ("ours fp32", 2)),
    "conv": tuple((name, 1) for name in PROGRAMS),
    "deep": (("ours fp32", 3), ("ours bf16", 3)),
    "deep-256": (("ours fp32", 3), ("ours bf16", 3)),
}
TITLES = {
    "small": "mlp 784-512-16",
    "conv": "conv 16-32-64, 256, 16",
    "deep": "mlp 784-1000-500-250-30",
    "deep-256": "the same, batch 256",
}
BUSY = 10  # per cent of the cores in use above which times would mean little


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--mirror", help="address or folder of MNIST's files, tried before torchvision's mirrors")
    options.add_argument("--repeat", type=int, default=3, help="trials of each program")
    options.add_argument("--only", choices=TRIALS, action="append", help="this network; the other rows stay")
    given = options.parse_args()
    if given.repeat < 1:
        raise UserError(f"benchmark: --repeat must be at least 1; got {given.repeat}")
    if missing := [name for name in ("pythae", "pytorch_lightning") if not find_spec(name)]:
        raise UserError(f"benchmark: {missing[0]} is missing; pip install -r requirements-benchmark.txt")
    if (busy := psutil.cpu_percent(2)) > BUSY:
        print(f"benchmark: {busy:.0f} % of the cores are in use: times will mean little", file=sys.stderr)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        fast(folder)
        python(
            "from tools import peers; from pathlib import Path; import sys;"
            "peers.prepare(Path('.'), sys.argv[1] or None)",
            given.mirror or "",
            folder=folder,
        )
        trials = pd.DataFrame(measured(folder, given.only or list(TRIALS), given.repeat))
    table = summary(trials)
    if given.only and TABLE.exists():  # the other networks keep their rows
        kept = pd.read_csv(TABLE)
        table = pd.concat([kept[~kept["network"].isin(given.only)], table])
    table = table.sort_values("network", key=lambda names: names.map(list(TRIALS).index), kind="stable")
    arrays.write(TABLE, table.to_csv(index=False).encode())
    arrays.write(NOTES, (markdown(table) + "\n").encode())
    save_chart(CHART, table)
    print(markdown(table))


def fast(folder: Path) -> None:
    """params.yaml in `folder` as it is here, but `numerics: fast` and no augmentation."""
    yaml = YAML()
    params = yaml.load((ROOT / "params.yaml").read_text())
    params["numerics"] = "fast"
    params["train"]["augment"]["max_images"] = 0
    with (folder / "params.yaml").open("w") as file:
        yaml.dump(params, file)


def python(code: str, *arguments: str, folder: Path) -> str:
    """What Python code prints, run in `folder` with the project on its path. `stages` is imported first."""
    environment = {**ENVIRONMENT, "PYTHONPATH": str(ROOT), "OMP_WAIT_POLICY": "active"}
    command = [sys.executable, "-c", f"import stages; {code}", *arguments]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise UserError(f"benchmark: {' '.join(arguments)}: {(done.stderr.strip().splitlines() or ['failed'])[-1]}")
    return done.stdout


def measured(folder: Path, networks: list[str], repeat: int) -> Iterator[dict]:
    """A row for each trial: turn, network, program, precision, epochs and what peers.py prints."""
    code = "import sys; from tools import peers; peers.main(*sys.argv[1:])"
    for turn in range(repeat):
        for network in networks:
            programs = TRIALS[network]
            first = turn % len(programs)  # each program is the first once: what ran before tells on the speed
            for program, epochs in programs[first:] + programs[:first]:
                name, precision = program.split()
                printed = python(code, name, network, precision, str(epochs), ".", folder=folder)
                found = json.loads(printed.strip().splitlines()[-1])
                print(f"{turn + 1}/{repeat} {network} {program}: {found['seconds']:.1f} s", file=sys.stderr)
                labels = {"turn": turn, "network": network, "program": name, "precision": precision, "epochs": epochs}
                yield {**labels, **found}


def summary(trials: pd.DataFrame) -> pd.DataFrame:
    """A row for each network, program and number of epochs, medians: speed, ratios, share of the limit, error, memory.

    ratio: our fp32 throughput over that of the row, in the same turn, since the machine's speed drifts.
    sooner: the seconds of the row over those of our fp32 with the fewest epochs that end with no higher error, so too.
    limit: images per second at the best rate of any product; share: of the limit in the same process.
    """
    rows, named = [], ["network", "program", "precision", "epochs"]
    trials = trials.assign(speed=trials["images"] / trials["seconds"]).sort_values(
        "epochs", ascending=False, kind="stable"
    )
    ours = trials[(trials["program"] == "ours") & (trials["precision"] == "fp32")]
    for names, group in trials.groupby(named, sort=False):
        row = dict(zip(named, names, strict=True))
        row |= group[["seconds", "speed", "mse", "memory"]].median().to_dict()
        beside = ours[ours["network"] == row["network"]]
        row["ratio"] = in_turn(full(beside, "turn"), group, "speed")
        errors = beside.groupby("epochs")["mse"].median()
        enough = errors.index[errors <= row["mse"]].min()  # NaN where ours never is as good
        row["sooner"] = in_turn(group, beside[beside["epochs"] == enough], "seconds")
        if row["program"] == "ours":
            best = np.array([max(max(rate[3:]) for rate in rates) for rates in group["rates"]])
            limit = 1e9 * best / group["operations"]
            row |= {"gflops": np.median(best), "limit": limit.median(), "share": (group["speed"] / limit).median()}
        rows.append({**row, "trials": len(group)})
    return pd.DataFrame(rows)


def in_turn(trials: pd.DataFrame, others: pd.DataFrame, column: str) -> float:
    """The median over the turns of a column of trials over that of others; NaN where there are no others."""
    return float((trials.set_index("turn")[column] / others.set_index("turn")[column]).median())


def full(table: pd.DataFrame, *more: str) -> pd.DataFrame:
    """The rows of programs at the full number of epochs, which comes first, for each value of the columns `more`."""
    return table.drop_duplicates(["network", "program", "precision", *more])


def markdown(table: pd.DataFrame) -> str:
    """The table as it stands in docs/performance.md."""
    shown = pd.DataFrame(
        {
            "network": table["network"].map(TITLES),
            "program": table["program"] + " " + table["precision"],
            "epochs": table["epochs"],
            "seconds": table["seconds"].map("{:.1f}".format),
            "images/s": table["speed"].map("{:,.0f}".format),
            "ours fp32 is faster by": table["ratio"].map("{:.2f}".format),
            "until an error no higher": [f"{v:.2f}" if v == v else "" for v in table["sooner"]],
            "limit, images/s": [f"{v:,.0f}" if v == v else "" for v in table["limit"]],
            "share of the limit": [f"{v:.0%}" if v == v else "" for v in table["share"]],
            "test MSE": table["mse"].map("{:.5f}".format),
            "peak memory, MiB": table["memory"].map("{:,.0f}".format),
        }
    )
    return shown.to_markdown(index=False, disable_numparse=True)


def save_chart(path: Path, table: pd.DataFrame) -> None:
    """Bars of images per second for each network, the limit of ours as a line."""
    networks = list(dict.fromkeys(table["network"]))
    with figures.drawing(path, 9, 1.2 + 0.45 * len(full(table))) as figure:
        heights = [len(full(table[table["network"] == name])) for name in networks]
        panels = figure.subplots(len(networks), 1, height_ratios=heights, squeeze=False)[:, 0]
        for axes, network in zip(panels, networks, strict=True):
            rows = full(table[table["network"] == network])
            labels = rows["program"] + " " + rows["precision"]
            colours = [figures.COLOURS[0] if name == "ours" else figures.COLOURS[1] for name in rows["program"]]
            bars = axes.barh(labels, rows["speed"], color=colours, height=0.7)
            axes.bar_label(bars, [f"{value:,.0f}" for value in rows["speed"]], padding=3)
            for place, limit in enumerate(rows["limit"]):
                if limit == limit:
                    axes.plot([limit, limit], [place - 0.4, place + 0.4], color=figures.INK, linewidth=2)
            axes.invert_yaxis()
            axes.set_title(TITLES[network])
            axes.margins(x=0.12)
            axes.tick_params("y", length=0)
        panels[-1].set_xlabel("training images per second; black: the limit")


if __name__ == "__main__":
    run(main)
