"""DVC's remote, through which the nodes of a cluster get the shared data and give back what they made."""

import uuid
from collections.abc import Mapping, Sequence

from dvc.exceptions import DvcException
from dvc.repo import Repo

from stages.autoencoder.core.errors import UserError
from tools.workspace.commands import run

# settings of a remote that a node is told; none is a secret: those stand in the node's own environment or files
SENT = ("url", "endpointurl", "region", "profile", "port", "user", "keyfile", "verify", "version_aware", "use_ssl")
INSTALL = "python -m pip install -r requirements/cluster.txt"


class Storage:
    """One of the remotes of a DVC repository."""

    def __init__(self, repo: Repo, name: str | None, environment: Mapping[str, str]) -> None:
        """name: by default DVC's default remote. Raises UserError where there is no such remote."""
        chosen = name or repo.config["core"].get("remote")
        known = repo.config["remote"]
        if not chosen or chosen not in known:
            wanted = f"got {name}" if name else "there is no default one"
            raise UserError(
                f"--remote must be the name of a DVC remote that the nodes can reach; {wanted};"
                " dvc remote add -d NAME ADDRESS"
            )
        self.repo, self.name, self._environment = repo, str(chosen), environment
        self.config = {key: str(known[chosen][key]) for key in SENT if key in known[chosen]}

    def check(self) -> None:
        """Write a file to the remote and remove it. Raises UserError where that fails."""
        try:
            remote = self.repo.cloud.get_remote_odb(self.name)
            probe = remote.fs.join(remote.path, f"probe-{uuid.uuid4()}")
            remote.fs.makedirs(remote.path, exist_ok=True)
            remote.fs.pipe_file(probe, b"probe")
            remote.fs.remove(probe)
        except (DvcException, OSError, ValueError) as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            hint = f"; {INSTALL}" if "requires" in reason else ""
            raise UserError(
                f"--remote must be one that this machine can write to; got {self.name}, {self.config['url']};"
                f" {reason:.300}{hint}"
            ) from None

    def push(self, stages: Sequence[str]) -> None:
        """Push the outputs of stages. Raises UserError where that fails."""
        if stages:
            run(["dvc", "push", f"--remote={self.name}", *stages], env=self._environment, new_session=True)
