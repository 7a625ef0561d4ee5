"""`python -m dev.audit`, or `make audit`: whether the installed packages have known vulnerabilities.

pip-audit asks PyPI's database about every installed version. It has an environment of its own, .audit, so that what
it requires changes nothing here and is not needed to run or test the pipeline.
"""

import json
import subprocess
import sysconfig
import venv
from pathlib import Path
from typing import Any

from stages.autoencoder.core.errors import UserError
from stages.runtime.command import run_main
from tools.workspace.commands import last_line

PIP_AUDIT = "pip-audit==2.10.1"
ENVIRONMENT = Path(".audit")
TIMEOUT_SECONDS = 20  # without an answer from the database
MAX_REASON = 200  # characters


def main() -> None:
    packages = ask_database()
    known = [package for package in packages if "skip_reason" not in package]
    vulnerabilities = [(package, entry) for package in known for entry in package["vulns"]]
    for package, entry in vulnerabilities:
        fixed = ", ".join(entry["fix_versions"]) or "no version yet"
        print(f"{package['name']} {package['version']}: {entry['id']}, fixed in {fixed}")
    if not known:  # a mirror of PyPI, say, that answers "not found" to every question
        raise UserError(
            f"audit: the database knows none of {len(packages)} packages, so this machine's package index is not PyPI;"
            " try where PyPI can be reached"
        )
    if vulnerabilities:
        raise UserError(
            f"audit: {len(vulnerabilities)} known vulnerabilities, see above; raise the pins in requirements/direct.in,"
            " then make lock; python -m dev.lock --upgrade for what they require"
        )
    unknown = [package["name"] for package in packages if "skip_reason" in package]
    rest = f"; the database does not know {', '.join(unknown)}" if unknown else ""
    print(f"audit: no known vulnerability in {len(known)} packages{rest}")


def ask_database() -> list[dict[str, Any]]:
    """What pip-audit reports for each installed package: name, and version and vulns or skip_reason.

    Raises UserError where the database does not answer.
    """
    command = [install_pip_audit(), "--path", sysconfig.get_path("purelib"), "--format", "json"]
    command += ["--progress-spinner", "off", "--timeout", str(TIMEOUT_SECONDS)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        packages: list[dict[str, Any]] = json.loads(ended.stdout)["dependencies"]
    except ValueError:  # no report; the exit status is the same as for a vulnerability
        raise UserError(f"audit: PyPI must be reachable; {shorten(ended.stderr)}; try where it is") from None
    return packages


def install_pip_audit() -> str:
    """The path of pip-audit in its environment, which is made if absent. Raises UserError if it can't be fetched."""
    program, pip = ENVIRONMENT / "bin/pip-audit", ENVIRONMENT / "bin/pip"
    if not program.exists():
        venv.create(ENVIRONMENT, with_pip=True, clear=True)
        command = [str(pip), "install", "--quiet", "--disable-pip-version-check", PIP_AUDIT]
        ended = subprocess.run(command, capture_output=True, text=True, check=False)
        if ended.returncode:
            raise UserError(
                f"audit: {PIP_AUDIT} must be installed in {ENVIRONMENT}; {shorten(ended.stderr)}; try again"
            )
    return str(program)


def shorten(log: str) -> str:
    """The last line of a log that says something, cut to fit into a message."""
    return last_line(log, "no message")[:MAX_REASON]


if __name__ == "__main__":
    run_main(main)
