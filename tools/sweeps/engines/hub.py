"""The git repository from which the nodes of a cluster get the code, and to which they push finished experiments."""

from pathlib import Path

from stages.autoencoder.core.errors import UserError
from tools.sweeps.engines.worker import experiments_of
from tools.workspace.commands import git

DEFAULT = "origin"


class Hub:
    """A repository at `address`, for the experiments of one sweep that start from `commit`."""

    def __init__(self, address: str, commit: str, sweep: str) -> None:
        self.address, self.commit = address, commit
        self.base = f"refs/sweeps/{sweep}"  # a full clone has the commit only if a reference leads to it
        self._experiments = f"{experiments_of(commit)}*"

    def publish(self) -> None:
        """Put the commit on the hub. Raises UserError where it can't be written to."""
        self._git("push", "--quiet", "--", self.address, f"+{self.commit}:{self.base}")

    def fetch(self) -> None:
        """Get the finished experiments. Raises UserError where the hub can't be read."""
        self._git("fetch", "--quiet", "--", self.address, f"+{self._experiments}:{self._experiments}")

    def withdraw(self) -> None:
        """Remove what `publish` has put there."""
        if self._git("ls-remote", "--", self.address, self.base):
            self._git("push", "--quiet", "--", self.address, f":{self.base}")

    def _git(self, *arguments: str) -> str:
        try:
            return git(*arguments)
        except UserError as error:
            raise UserError(
                f"--hub must be a git repository that this machine can read and write; got {self.address}; {error}"
            ) from None


def locate(name: str | None) -> str:
    """The address of a hub: the name of a git remote, an address or a folder, by default the remote `origin`.

    A folder becomes an absolute path, which must be the same on every node. Raises UserError where there is none.
    """
    remotes = git("remote").split()
    if name is None and DEFAULT not in remotes:
        raise UserError(
            "--hub must name the git repository that the nodes can reach; got none, and there is no git remote"
            f" {DEFAULT}; add --hub ADDRESS"
        )
    name = name or DEFAULT
    if name.startswith("-"):
        raise UserError(f"--hub must be an address, a folder or the name of a git remote; got {name!r}")
    address = git("remote", "get-url", "--push", name).strip() if name in remotes else name
    return str(Path(address).resolve()) if Path(address).is_dir() else address
