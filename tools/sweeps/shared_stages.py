"""The stages whose results all experiments of a sweep share: run once before them, not by each worker."""

import os
import signal
import subprocess
import threading
from collections.abc import Mapping, Sequence

import networkx
from dvc.repo import Repo

from stages.autoencoder.core.errors import UserError
from tools.sweeps.supervision import StopSignal, print_log


def run_shared_stages(repo: Repo, keys: Sequence[str], environment: Mapping[str, str], stop: StopSignal) -> list[str]:
    """Run the stages that no key in `keys` reaches, if they are not up to date. Returns their names.

    Raises UserError if one fails.
    """
    targets = find_shared_stages(repo, keys)
    if not targets or not repo.status(targets):
        return targets
    print(f"sweep: dvc repro {' '.join(targets)}: all experiments share these stages, so they run once", flush=True)
    process = subprocess.Popen(
        ["dvc", "repro", *targets],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    output: list[str] = []
    reader = threading.Thread(target=lambda: output.extend(process.stdout or ()), daemon=True)
    reader.start()
    try:
        while process.poll() is None:
            stop.check(0.2)
    except KeyboardInterrupt:
        os.killpg(process.pid, signal.SIGINT)
        process.wait()
        raise UserError("interrupted before anything was queued; the same command continues") from None
    reader.join()
    if process.returncode:
        print_log(line for line in output if line.strip())
        raise UserError("a stage that the experiments share failed, see above; nothing was queued")
    return targets


def find_shared_stages(repo: Repo, keys: Sequence[str]) -> list[str]:
    """Names of the stages whose results are the same whatever the values of `keys`, in the order of dvc.yaml.

    A stage that reads all of params.yaml (`check`) is one of them: its result does not depend on the values.
    """
    reached = set()
    for stage in repo.index.stages:
        declared = [name for dependency in stage.params for name in dependency.params]
        if any(
            f"{key}.".startswith(f"{name}.") or f"{name}.".startswith(f"{key}.") for key in keys for name in declared
        ):
            reached |= {stage} | networkx.ancestors(repo.index.graph, stage)
    return [stage.addressing for stage in repo.index.stages if stage not in reached]
