"""How a command ends: log lines on stderr, a user's mistake as one line, exit status 1, no traceback."""

import gc
import inspect
import logging
import sys
from collections.abc import Callable

from stages.autoencoder.core.errors import UserError
from stages.runtime.processes import end


def run_stage(main: Callable[[], None]) -> None:
    """Run a stage's main. A stage takes no arguments; `--help` prints the docstring of its module.

    Its parameters stand in params.yaml, its files are named in the script itself.
    """
    module = inspect.getmodule(main)
    spec = getattr(module, "__spec__", None)
    command = f"python -m {spec.name}" if spec else sys.argv[0]
    arguments = sys.argv[1:]
    if {"-h", "--help"} & set(arguments):
        print(f"usage: {command}\n\n{inspect.getdoc(module)}")
        return
    if arguments:
        sys.exit(
            f"{command}: must be run without arguments; got {' '.join(arguments)!r:.80}; set parameters in params.yaml,"
            " or by dvc exp run -S KEY=VALUE"
        )
    run_main(main)


def run_main(main: Callable[[], None]) -> None:
    """Run a main function as a command.

    An OSError (full disk, read-only folder, missing file) is a user's matter too: it names its path. So is
    running out of memory.
    """
    gc.freeze()  # what was imported stays until the end: no collection needs to look at it
    gc.enable()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        main()
    except UserError as error:
        end(str(error))
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        end(f"{place}{error.strerror or error}; make room or give access, then run again")
    except MemoryError as error:
        reason = " ".join(str(error).split()) or "it is exhausted"
        end(f"memory: must hold the data and the network; {reason}; use fewer images or a smaller network")
    except KeyboardInterrupt:
        end("interrupted; run again to go on")
