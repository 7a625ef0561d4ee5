"""What a sweep asks of the engine that runs its experiments."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from tools.sweeps.engines.worker import experiments_of
from tools.workspace.commands import git


@dataclass(frozen=True)
class State:
    """The experiments of one commit, by name: done {name: commit}, running and queued {name: entry of the engine}."""

    done: Mapping[str, str]
    running: Mapping[str, Any]
    queued: Mapping[str, Any]

    def __contains__(self, name: str) -> bool:
        return name in self.done or name in self.running or name in self.queued


class Engine(Protocol):
    """Runs experiments that start from one commit. Git alone decides what is done: an experiment with a reference."""

    @property
    def worker_log(self) -> str:
        """Where to look if an experiment ended without a log."""

    def read_state(self) -> State:
        """The state now."""

    def list_unrelated(self, names: Iterable[str]) -> list[str]:
        """Names of experiments in the engine's queue that would run beside those in `names`."""

    def check(self) -> None:
        """Raises UserError where the code or the outputs can't be carried to the experiments."""

    def prepare(self, shared: Sequence[str], pause: Callable[[float], None]) -> None:
        """Make the outputs of the shared stages, which are up to date here, reachable for the experiments.

        pause: waits for so many seconds; raises KeyboardInterrupt when the sweep is to stop. Raises UserError where no
        experiment could run.
        """

    def add(self, name: str, overrides: Iterable[str], message: str) -> None:
        """Queue one experiment: the workspace with `overrides`. `message` becomes that of its commit."""

    def tend(self, state: State) -> None:
        """Have what is queued run, and remove what died."""

    def read_log(self, name: str, line_count: int) -> list[str]:
        """The last lines of an experiment's log; empty if it wrote none."""

    def abandon(self, names: Collection[str]) -> None:
        """Start no further experiment of these, after an error."""

    def stop(self, names: Collection[str]) -> str:
        """Start no further experiment of these, as the user wants. Returns what became of them, in a line."""

    def finish(self, names: Collection[str], failed: Iterable[str]) -> None:
        """Clean up after a sweep of which all experiments have ended."""


def list_done(commit: str) -> dict[str, str]:
    """{name: commit} of the finished experiments that started from a commit, in this repository."""
    base = experiments_of(commit)
    lines = git("for-each-ref", "--format=%(refname) %(objectname)", base).splitlines()
    return {name.removeprefix(base): own for name, own in map(str.split, lines)}
