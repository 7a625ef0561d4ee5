"""The number of threads that scikit-learn's scores and maps use: their bytes must not depend on it.

Its k-means and t-SNE add partial results in the order in which threads finish. With two threads either order gives
the same sum, with three it does not. The many small products of such scores are also far faster on one BLAS
thread than on several that wait for each other on shared cores (65 times, in a logistic regression on two busy
cores).
"""

from contextlib import AbstractContextManager

from threadpoolctl import threadpool_limits


def limit_threads() -> AbstractContextManager[object]:
    """A context in which OpenMP has two threads and BLAS one."""
    return threadpool_limits(limits={"openmp": 2, "blas": 1})
