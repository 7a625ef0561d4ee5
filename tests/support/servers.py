"""Real servers on 127.0.0.1 for what a cluster needs: S3 by SeaweedFS, ssh by OpenSSH."""

import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

HOST = "127.0.0.1"
START_SECONDS = 180  # on a busy machine


class S3Server:
    """An S3 server with its files in a folder, which can be stopped for a while."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ports = {name: find_port() for name in ("master.port", "volume.port", "filer.port", "s3.port")}
        self.endpoint = f"http://{HOST}:{self.ports['s3.port']}"
        key, secret = secrets.token_hex(10), secrets.token_hex(20)
        # what its users have in their environment
        self.access = {"AWS_ACCESS_KEY_ID": key, "AWS_SECRET_ACCESS_KEY": secret, "AWS_DEFAULT_REGION": "us-east-1"}
        keys = {"name": "tester", "credentials": [{"accessKey": key, "secretKey": secret}]}
        self._identities = {"identities": [{**keys, "actions": ["Admin", "Read", "Write", "List", "Tagging"]}]}
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, with what it had before."""
        self.folder.mkdir(exist_ok=True)
        identities = self.folder / "identities.json"
        identities.write_text(json.dumps(self._identities))
        command = [str(Path(sys.executable).with_name("weed")), "server", "-s3", f"-dir={self.folder}", f"-ip={HOST}"]
        command += [f"-ip.bind={HOST}", f"-s3.config={identities}", "-volume.max=20", "-master.volumeSizeLimitMB=64"]
        command += ["-s3.port.iceberg=0", "-s3.port.lance=0"]  # on ports of their own, which another server may have
        command += [f"-{name}={port}" for name, port in self.ports.items()]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, cwd=self.folder, start_new_session=True)
        wait_for_port(self.ports["s3.port"])

    def stop(self) -> None:
        """Stop it; its files stay."""
        if self._process:
            os.killpg(self._process.pid, signal.SIGTERM)
            self._process.wait()
            self._process = None


@contextmanager
def running_sshd(folder: Path) -> Iterator[dict[str, str]]:
    """An ssh server for this user; yields the environment in which git finds and trusts it, with its PORT."""
    folder.mkdir()
    port = find_port()
    for name in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)], check=True)
    shutil.copy(folder / "user.pub", folder / "authorized_keys")
    host_key = (folder / "host.pub").read_text().split()
    (folder / "known_hosts").write_text(f"[{HOST}]:{port} {host_key[0]} {host_key[1]}\n")
    settings = {
        "ListenAddress": f"{HOST}:{port}",
        "HostKey": folder / "host",
        "AuthorizedKeysFile": folder / "authorized_keys",
        "PidFile": folder / "pid",
        "StrictModes": "no",
        "UsePAM": "no",
        "PasswordAuthentication": "no",
        "Subsystem": "sftp internal-sftp",
    }
    (folder / "sshd_config").write_text("".join(f"{key} {value}\n" for key, value in settings.items()))
    Path("/run/sshd").mkdir(exist_ok=True)
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(
            [shutil.which("sshd") or "/usr/sbin/sshd", "-D", "-e", "-f", str(folder / "sshd_config")], stderr=log
        )
    try:
        wait_for_port(port)
        options = f"-oUserKnownHostsFile={folder / 'known_hosts'} -oIdentityFile={folder / 'user'} -oBatchMode=yes"
        yield {"GIT_SSH_COMMAND": f"ssh -F/dev/null -oStrictHostKeyChecking=yes {options}", "PORT": str(port)}
    finally:
        server.terminate()
        server.wait()


def find_port() -> int:
    """A port that nobody uses. SeaweedFS adds 10,000 to it for its own calls, so it is below 32,768."""
    for port in range(20000 + os.getpid() % 2000, 32768):
        with suppress(OSError), socket.socket() as one, socket.socket() as two:
            one.bind((HOST, port))
            two.bind((HOST, port + 10000))
            if port not in _given:
                _given.add(port)
                return port
    raise RuntimeError("no free port")


_given: set[int] = set()


def wait_for_port(port: int) -> None:
    """Wait until somebody listens."""
    deadline = time.monotonic() + START_SECONDS
    while True:
        with suppress(OSError), socket.create_connection((HOST, port), 1):
            return
        if time.monotonic() > deadline:
            raise RuntimeError(f"nobody listens at port {port}")
        time.sleep(0.2)
