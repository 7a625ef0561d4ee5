"""`python -m tools.audit`, or `make audit`: are there known vulnerabilities in the installed packages?

pip-audit asks PyPI's database about every installed version. It stands in an environment of its own, .audit,
so that what it brings changes nothing here, and is not needed to run or test the pipeline.
"""

import json
import subprocess
import sysconfig
import venv
from pathlib import Path

from stages.autoencoder.errors import UserError, run

VERSION = "2.10.1"
HOME = Path(".audit")
SECONDS = 20  # without an answer from the database


def main() -> None:
    command = [str(_installed()), "--path", sysconfig.get_path("purelib"), "--format", "json"]
    command += ["--progress-spinner", "off", "--timeout", str(SECONDS)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        packages = json.loads(done.stdout)["dependencies"]
    except ValueError:  # no report: its exit status is the same as for a vulnerability
        raise UserError(f"audit: the database can't be reached; {_reason(done.stderr)}; try where it can") from None
    found = [(package, fault) for package in packages for fault in package.get("vulns", [])]
    for package, fault in found:
        mended = ", ".join(fault["fix_versions"]) or "no version yet"
        print(f"{package['name']} {package['version']}: {fault['id']}, mended in {mended}")
    passed = [package["name"] for package in packages if "skip_reason" in package]
    if len(passed) == len(packages):  # a mirror of packages, say, that answers "not found" to every question
        raise UserError(
            f"audit: the database knows none of {len(packages)} packages, so another server stands in its place; try"
            " where PyPI can be reached"
        )
    if found:
        raise UserError(f"audit: {len(found)} known vulnerabilities, see above; raise the pins in requirements.txt")
    unknown = f"; the database does not know {', '.join(passed)}" if passed else ""
    print(f"audit: no known vulnerability in {len(packages) - len(passed)} packages{unknown}")


def _installed() -> Path:
    """pip-audit in its environment, made where it is absent. Raises UserError where it can't be fetched."""
    program, pip = HOME / "bin/pip-audit", HOME / "bin/pip"
    if not program.exists():
        venv.create(HOME, with_pip=True, clear=True)
        command = [str(pip), "install", "--quiet", "--disable-pip-version-check", f"pip-audit=={VERSION}"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise UserError(f"audit: pip-audit {VERSION} can't be installed; {_reason(done.stderr)}; try again")
    return program


def _reason(log: str) -> str:
    """The last line of a log that says something, in 200 characters."""
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    return lines[-1][:200] if lines else "it said nothing"


if __name__ == "__main__":
    run(main)
