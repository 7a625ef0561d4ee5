"""Command lines of our programs. Uses the standard library only: dev.install runs before any package is there."""

import argparse
from typing import NoReturn

from stages.autoencoder.core.errors import UserError


class ArgumentParser(argparse.ArgumentParser):
    """argparse's parser, except that an unusable command line is one line instead of a usage block.

    epilog: for a program that can't run without arguments, an example of its command line.
    """

    def error(self, message: str) -> NoReturn:
        """Raise UserError with the program, argparse's message and the next step."""
        next_step = f"{self.epilog}; see --help" if self.epilog else "see --help"
        raise UserError(f"{self.prog}: {message}; {next_step}")
