"""`python -m tools.results [ROW ...]`: runs the experiments of docs/results.md and writes its table.

Each is a user's command, `dvc exp run -S ...`, run in a clone of the committed state that shares this
checkout's cache, one after the other: seconds are those of the training alone on the whole machine. What is
done stands in docs/results.csv with every digit and is not run again, unless its row is named.
"""

import argparse
import json
import platform
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import pandas as pd

ROOT = Path(__file__).resolve().parent.parent
TABLE, PAGE = ROOT / "docs/results.csv", ROOT / "docs/results.md"
SETTINGS = Path(__file__).with_name("results.json")
MARKS = ("<!-- table -->", "<!-- end -->")


class Row(NamedTuple):
    """One line of the table. The number is the mean of `metric` over `each`, then over the seeds."""

    name: str
    what: str
    metric: str  # a key of metrics/evaluate.json
    format: str
    reach: str  # what the project wanted to reach
    published: str
    overrides: list[str]
    seeds: int
    each: list[str]


def rows() -> list[Row]:
    """The rows of tools/results.json."""
    return [Row(**entry) for entry in json.loads(SETTINGS.read_text())]


def run(clone: Path, overrides: list[str]) -> dict[str, float]:
    """One experiment in the clone: its metrics and, as `seconds`, what its training took by its own log."""
    subprocess.run(["git", "checkout", "--quiet", "--force", "HEAD"], cwd=clone, check=True)
    command = ["dvc", "exp", "run", *(word for override in overrides for word in ("-S", override))]
    ended = subprocess.run(command, cwd=clone, capture_output=True, text=True)
    output = ended.stdout + ended.stderr
    if ended.returncode:
        sys.exit(f"{' '.join(command)}: failed; {output[-2000:]}")
    seconds = re.search(r"^train: ([\d.]+) s,", output, re.MULTILINE)
    metrics = json.loads((clone / "metrics/evaluate.json").read_text())
    return metrics | {"seconds": float(seconds[1]) if seconds else float("nan")}


def clone_here(folder: Path, mirror: str | None) -> Path:
    """A clone of HEAD with this checkout's cache; `mirror` is where it fetches datasets from."""
    clone = folder / "clone"
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
    cache = subprocess.check_output(["dvc", "cache", "dir"], cwd=ROOT, text=True).strip()
    subprocess.run(["dvc", "cache", "dir", "--local", cache], cwd=clone, check=True)
    if mirror:
        text = (clone / "params.yaml").read_text()
        (clone / "params.yaml").write_text(text.replace("mirror: null", f"mirror: {mirror}"))
        subprocess.run(["git", "commit", "--quiet", "--all", "--message", "mirror"], cwd=clone, check=True)
    return clone


def page(done: pd.DataFrame) -> str:
    """The Markdown table of what is done."""
    lines = [
        "| what | command: `dvc exp run` with | number | reach | published | seconds |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows():
        found = done[done["row"] == row.name]
        if found.empty:
            continue
        by_seed = found.groupby("seed")[["value", "seconds"]].mean()
        number = format(by_seed["value"].mean(), row.format)
        if len(by_seed) > 1:
            number += f" ± {format(by_seed['value'].std(), row.format)} (n = {len(by_seed)})"
        command = " ".join(f"`-S {override}`" for override in [*row.overrides, *row.each[:1]])
        command += f" and {len(row.each) - 1} more" if len(row.each) > 1 else ""
        seconds = by_seed["seconds"].mean()
        cells = [row.what, command, f"**{number}**", row.reach, row.published, f"{seconds:.0f}"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def write(done: pd.DataFrame) -> None:
    """docs/results.csv, and the table inside docs/results.md."""
    done.to_csv(TABLE, index=False)
    text = PAGE.read_text()
    start, end = text.index(MARKS[0]) + len(MARKS[0]), text.index(MARKS[1])
    PAGE.write_text(text[:start] + "\n" + page(done) + text[end:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("rows", nargs="*", help="names in tools/results.json; run again even if done")
    parser.add_argument("--mirror", help="address or folder that datasets are fetched from first")
    parser.add_argument("--write", action="store_true", help="only write the table anew")
    chosen = parser.parse_args()
    done = (
        pd.read_csv(TABLE)
        if TABLE.exists()
        else pd.DataFrame(columns=["row", "seed", "each", "value", "seconds", "cpu"])
    )
    done = done[~done["row"].isin(chosen.rows)]
    if chosen.write:
        write(done)
        return
    with tempfile.TemporaryDirectory() as folder:
        clone = clone_here(Path(folder), chosen.mirror)
        for row in rows():
            if chosen.rows and row.name not in chosen.rows:
                continue
            for seed in range(row.seeds):
                for each in row.each or [""]:
                    if ((done["row"] == row.name) & (done["seed"] == seed) & (done["each"].fillna("") == each)).any():
                        continue
                    found = run(clone, [*row.overrides, *([each] if each else []), f"seed={seed}"])
                    new = [
                        row.name,
                        seed,
                        each,
                        found[row.metric],
                        found["seconds"],
                        platform.processor() or platform.machine(),
                    ]
                    done.loc[len(done)] = new
                    print(*new, flush=True)
                    write(done)


if __name__ == "__main__":
    main()
