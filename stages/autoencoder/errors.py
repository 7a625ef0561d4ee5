"""A user's mistake, and how a stage ends: one line on stderr and exit status 1, or quietly."""

import logging
import sys
from collections.abc import Callable


class UserError(Exception):
    """Something the user can mend. The message is one printable line: place, rule, value, next step."""

    def __init__(self, message: str) -> None:
        # it may quote what a stranger's file says: no control character of it reaches the terminal
        line = " ".join(message.split())
        super().__init__("".join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in line))


def run(main: Callable[[], None]) -> None:
    """Run a stage's main as a command: log lines on stderr, a user's mistake as one line, exit status 1.

    An OSError (full disk, folder not writable, file missing) is a user's matter too: it names its path. So is
    memory that does not suffice.
    """
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        main()
    except UserError as error:
        sys.exit(str(error))
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        sys.exit(f"{place}{error.strerror or error}; make room or give access, then run again")
    except MemoryError as error:
        reason = " ".join(str(error).split()) or "it did not"
        sys.exit(f"memory: must suffice for data and network; {reason}; make one of them smaller")
    except KeyboardInterrupt:
        sys.exit("interrupted; run again to go on")
