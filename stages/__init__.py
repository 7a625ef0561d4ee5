"""Pins the numerical environment before NumPy or torch is imported: the same inputs give the same bytes.

Libraries choose their kernels by the CPU they find and by the threads they may use, and each choice rounds
differently. `numerics: portable` takes the choice away from them; `numerics: fast` leaves it to them.
The variables count only where they stand before the first import of a library: hence here, and hence this
is the one module that reads params.yaml when it is imported.
"""

import os

from stages.autoencoder.errors import UserError
from stages.autoencoder.params.reading import read
from stages.autoencoder.params.section import Numerics, Section, Threads

# AVX2 is the widest instruction set that nearly every x86-64 CPU since 2015 has.
PORTABLE = {
    "ATEN_CPU_CAPABILITY": "avx2",  # torch's own vectorised kernels
    "ONEDNN_MAX_CPU_ISA": "AVX2",  # convolutions, and the matrix products of networks.Dense
    "MKL_CBWR": "COMPATIBLE",  # torch's other matrix products; its AVX2 differs between Intel and AMD
    "OPENBLAS_CORETYPE": "Haswell",  # products and eigenvalues of NumPy, SciPy and scikit-learn
    "OPENBLAS_NUM_THREADS": "1",  # it starts no more threads than there are cores: two would be one on one core
    "NPY_DISABLE_CPU_FEATURES": "X86_V4 AVX512_ICL AVX512_SPR",  # NumPy's exp, log and sums
    "OMP_DYNAMIC": "FALSE",  # where a sum is cut depends on the number of threads
    "MKL_DYNAMIC": "FALSE",
    "CUBLAS_WORKSPACE_CONFIG": ":4096:8",  # what torch.use_deterministic_algorithms asks for on CUDA
}
# How long a thread that waits for another spins before it sleeps: briefly. By default it spins for milliseconds,
# and two runs that share the cores slow each other tenfold or worse. OMP_WAIT_POLICY, where you set it, wins:
# active is faster on an idle machine, passive where cores are shared. No result depends on it.
PATIENCE = {"GOMP_SPINCOUNT": "1000"}
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")


class NumericsParams(Section):
    """The two keys that every computing stage reads through this module."""

    numerics: Numerics
    threads: Threads


def pin() -> None:
    """Set the environment as params.yaml says; portable with two threads where it can't be read."""
    try:
        params = read(NumericsParams)
    except UserError:  # the stage reads params.yaml again, strictly, and says what is wrong
        params = NumericsParams(numerics="portable", threads=2)
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.update(PATIENCE)
    if params.numerics == "portable":
        os.environ.update(PORTABLE, **dict.fromkeys(THREADS, str(params.threads)))


pin()
