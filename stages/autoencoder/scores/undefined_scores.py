"""Scores that the data do not define: left out of a table with a line in the log, never NaN."""

import logging
import math
from collections.abc import Callable
from typing import Any

log = logging.getLogger(__name__)


class UndefinedScore(Exception):  # noqa: N818 - not an error
    """The data do not define this score. The message says why."""


def add_score(table: dict[str, float], name: str | tuple[str, ...], score: Callable[..., Any], *arguments: Any) -> None:
    """table[name] = score(*arguments), or one value for each of several names.

    A value that is undefined or not finite is left out, and the log says why.
    """
    names = (name,) if isinstance(name, str) else name
    try:
        result = score(*arguments)
        values = (result,) if isinstance(name, str) else result
        if not all(map(math.isfinite, values)):
            raise UndefinedScore(f"got {', '.join(map(str, values))}")
    except UndefinedScore as reason:
        log.info("no %s: %s", ", ".join(names), reason)
    else:
        table.update(zip(names, values, strict=True))
