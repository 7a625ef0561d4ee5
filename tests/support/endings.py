"""`python -m tests.support.endings`: two processes, of which the second ends both, as the variable ENDING says."""

import os
import signal
import time

from stages.autoencoder.core.errors import UserError
from stages.runtime import processes
from stages.runtime.command import run_main


def end_all() -> None:
    """End in the way that ENDING says while the other processes wait for this one."""
    from torch import distributed

    if distributed.get_rank() == 1:
        if os.environ["ENDING"] == "error":
            raise UserError("endings: one process must end with an error; got this one")
        if os.environ["ENDING"] == "traceback":
            raise ZeroDivisionError
        os.kill(os.getppid(), signal.SIGKILL)
        time.sleep(60)
    distributed.barrier()


if __name__ == "__main__":
    run_main(lambda: processes.run(2, "tests.support.endings", end_all))
