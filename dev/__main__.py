"""`python -m dev`: lists the commands of this folder, a line each."""

from pathlib import Path

from stages.runtime.command import run_main
from tools.workspace.command_list import print_commands

if __name__ == "__main__":
    run_main(lambda: print_commands(Path(__file__).resolve().parent))
