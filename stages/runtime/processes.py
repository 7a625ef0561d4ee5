"""A stage's main in several processes of this machine, which torchrun's launcher starts and watches.

The stage itself starts them and computes nothing. They meet through a file and talk over the loopback interface, so
nothing listens to other machines. If one ends with an error, is killed, or loses the process that started it, all end,
and the stage ends with one line.
"""

import logging
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn

from stages.autoencoder.core.errors import UserError

ROOT = Path(__file__).resolve().parents[2]  # where `stages` can be imported
FOLDER = "STAGE_PROCESSES"  # the variable of the environment that names the processes' folder
MESSAGE = "message."  # the beginning of the names of files in it, in which processes say why they ended
LOOPBACK = "lo0" if sys.platform == "darwin" else "lo"
SHUTDOWN = 5  # seconds until a process that does not end is killed
TIMEOUT = timedelta(days=1)  # that processes wait for another, such as for the first one's validation
WATCH = 0.2  # seconds between two looks at the process that started this one


def run(count: int, module: str, main: Callable[[], None]) -> None:
    """Run `main` here; above a count of 1, in so many processes of `python -m module`, which calls this again.

    In those, torch.distributed is initialised. Raises UserError with the reason why the first of them failed.
    """
    if count == 1:
        main()
    elif FOLDER in os.environ:
        _take_part(count, main)
    else:
        _start(count, module)


def _start(count: int, module: str) -> None:
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException, Std
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    os.environ["PYTHONPATH"] = os.pathsep.join(paths)
    cores = os.cpu_count() or 1
    threads = os.environ.setdefault("OMP_NUM_THREADS", str(max(1, cores // count))).partition(",")[0]  # if not portable
    if count * int(threads) > cores:
        os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # as numerics.py explains
    os.environ["TORCH_DISABLE_SHARE_RDZV_TCP_STORE"] = "1"  # it would listen to all machines
    with tempfile.TemporaryDirectory(prefix="stage-") as folder:
        os.environ[FOLDER] = folder
        config = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=count,
            run_id=str(os.getpid()),  # which the processes watch
            rdzv_backend="c10d",
            rdzv_endpoint=f"{folder}/launcher",
            rdzv_configs={"store_type": "file"},  # so would the other type
            local_addr="127.0.0.1",
            max_restarts=0,
            logs_specs=DefaultLogsSpecs(folder, redirects=Std.OUT),
            shutdown_timeout=SHUTDOWN,
        )
        logging.disable(logging.CRITICAL)  # the launcher's own account of a failure takes thirty lines
        try:
            elastic_launch(config, sys.executable)("-m", module)
        except SignalException as error:
            if error.sigval == signal.SIGINT:
                raise KeyboardInterrupt from None
            raise UserError(f"processes: must run to their end; got {error.sigval.name}; run again to go on") from None
        except ChildFailedError as error:
            raise UserError(_find_reason(Path(folder), count, error.failures)) from None
        finally:
            logging.disable(logging.NOTSET)
            del os.environ[FOLDER]


def _find_reason(folder: Path, count: int, failures: dict[int, Any]) -> str:
    """Why the processes ended: the first message of one, else how one was killed."""
    for path in sorted(folder.glob(f"{MESSAGE}*"), key=lambda path: path.stat().st_mtime_ns):
        if message := path.read_text(encoding="utf-8"):  # none if a process was killed while it wrote
            return message
    # those that remain get SIGTERM from the launcher, and may find that another is gone, with status 1, before that
    order = [-signal.SIGTERM, 1]
    rank, code = min(
        ((rank, failure.exitcode) for rank, failure in failures.items()),
        key=lambda item: order.index(item[1]) if item[1] in order else -1,
    )
    how = f"exit status {code}" if code > 0 else signal.Signals(-code).name
    return f"processes: all {count} must run to their end; number {rank + 1} ended with {how}; run again to go on"


def _take_part(count: int, main: Callable[[], None]) -> None:
    """Run main as one of the processes."""
    from torch import cuda, distributed

    folder, rank = Path(os.environ[FOLDER]), int(os.environ["RANK"])
    parent = int(os.environ["TORCHELASTIC_RUN_ID"])
    threading.Thread(target=_end_with, args=[parent, folder], daemon=True).start()
    os.environ["GLOO_SOCKET_IFNAME"] = os.environ["NCCL_SOCKET_IFNAME"] = LOOPBACK
    if rank > 0:
        logging.disable(logging.INFO)  # the first process reports for all
    try:
        distributed.init_process_group(
            "cpu:gloo,cuda:nccl" if cuda.is_available() else "gloo",
            store=distributed.FileStore(str(folder / "group"), count),
            rank=rank,
            world_size=count,
            timeout=TIMEOUT,
        )
        sys.excepthook = _report_fault
        main()
        distributed.destroy_process_group()
    except RuntimeError as error:
        if not isinstance(error, distributed.DistError) and "gloo" not in str(error):
            raise
        os._exit(1)  # another process is gone: it, or how it ended, says why


def end(message: str) -> NoReturn:
    """End this process with status 1 and a line on stderr; that of one of several goes to the stage."""
    if FOLDER in os.environ:
        Path(os.environ[FOLDER], f"{MESSAGE}{os.environ['RANK']}").write_text(message, encoding="utf-8")
        os._exit(1)
    sys.exit(message)


def _report_fault(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print the traceback before the others notice that this process ends."""
    traceback.print_exception(kind, error, trace)
    end(f"processes: must not fail; number {int(os.environ['RANK']) + 1} did, see above; report it")


def _end_with(parent: int, folder: Path) -> None:
    """End this process, and remove the folder of all, when the one that started them is gone."""
    while os.getppid() == parent:
        time.sleep(WATCH)
    shutil.rmtree(folder, ignore_errors=True)
    os._exit(1)
