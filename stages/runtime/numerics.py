"""Pins the numerical environment when imported: the same inputs then give the same bytes.

Libraries choose their kernels by the CPU and by the number of threads, and each choice rounds differently.
`numerics: portable` in params.yaml takes that choice away from them; `numerics: fast` leaves it to them. The
variables count only if they are set before NumPy or torch is first imported, so each stage imports this module
first. Nothing else in the project changes the process when imported.

It also stops Python's garbage collector until `command.run_main` starts it: a stage imports its libraries in a
quarter less time, and ends half a second sooner.
"""

import gc
import os
import sys
import time
import warnings
from pathlib import Path

from stages.autoencoder.core.errors import UserError

try:
    from stages.autoencoder.params.base import loader
    from stages.autoencoder.params.base.section import Numerics, Section, Threads
except ModuleNotFoundError as error:  # the first packages that a stage needs
    sys.exit(f"python: must have the locked packages; {sys.executable} lacks {error.name}; . .venv/bin/activate")

# AVX2 is the widest instruction set that nearly every x86-64 CPU since 2015 has.
PORTABLE = {
    "ATEN_CPU_CAPABILITY": "avx2",  # torch's own vectorised kernels
    "ONEDNN_MAX_CPU_ISA": "AVX2",  # convolutions, and the matrix products of model/layers/dense.py
    "MKL_CBWR": "COMPATIBLE",  # torch's other matrix products; its AVX2 differs between Intel and AMD
    "OPENBLAS_CORETYPE": "Haswell",  # products and eigenvalues of NumPy, SciPy and scikit-learn
    "OPENBLAS_NUM_THREADS": "1",  # it starts no more threads than there are cores: two would be one on one core
    "NPY_DISABLE_CPU_FEATURES": "X86_V4 AVX512_ICL AVX512_SPR",  # NumPy's exp, log and sums
    "OMP_DYNAMIC": "FALSE",  # where a sum is cut depends on the number of threads
    "MKL_DYNAMIC": "FALSE",
    "CUBLAS_WORKSPACE_CONFIG": ":4096:8",  # what torch's deterministic algorithms need on CUDA
}
# How long a thread that waits for another spins before it sleeps. To wake it takes longer than many of our products:
# on idle cores a training step that spins takes a quarter less time. On cores that others use as well it slows itself,
# twofold with this count and tenfold with the default, so it then sleeps soon. OMP_WAIT_POLICY wins if you set it. No
# result depends on it.
LOAD = Path("/proc/loadavg")  # its fourth word: threads that run now, and all there are
SPIN, SHORT_SPIN = "10000", "1000"
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")


class NumericsParams(Section):
    """The two keys that every computing stage reads through this module."""

    numerics: Numerics
    threads: Threads


def has_idle_cores(count: int) -> bool:
    """Whether at this moment at least so many cores have nothing to do, as far as Linux tells."""
    running = []
    try:
        for moment in range(5):  # a moment's work of others is no load
            time.sleep(0.002 if moment else 0)
            running.append(int(LOAD.read_text(encoding="ascii").split()[3].partition("/")[0]))
    except (OSError, ValueError, IndexError):
        return False
    return (os.cpu_count() or 1) - (min(running) - 1) >= count  # this process runs too


def pin() -> None:
    """Set the environment variables as params.yaml says; portable with two threads if it can't be read."""
    try:
        params = loader.load(NumericsParams)
    except UserError:  # the stage reads params.yaml again, strictly, and reports what is wrong
        params = NumericsParams(numerics="portable", threads=2)
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ["GOMP_SPINCOUNT"] = SPIN if has_idle_cores(params.threads) else SHORT_SPIN
    if params.numerics == "portable":
        if imported := {"numpy", "torch"} & sys.modules.keys():
            warnings.warn(f"stages.runtime.numerics pins nothing of {imported.pop()}: import it first", stacklevel=2)
        os.environ.update(PORTABLE, **dict.fromkeys(THREAD_VARIABLES, str(params.threads)))


gc.disable()
pin()
