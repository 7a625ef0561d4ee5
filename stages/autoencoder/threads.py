"""How many threads scikit-learn's scores and maps take: their bytes must not depend on it.

Its k-means and t-SNE add what the threads found in the order in which they end; of two numbers either order
gives the same sum, of three it does not. And the many small products of such scores are far faster on one
BLAS thread than on several that wait for each other where cores are shared (65 times, in a logistic
regression on two busy cores).
"""

from contextlib import AbstractContextManager

from threadpoolctl import threadpool_limits


def few() -> AbstractContextManager:
    """A context in which OpenMP has two threads and BLAS one."""
    return threadpool_limits(limits={"openmp": 2, "blas": 1})
