"""Scores that the data do not define: left out of the tables with a line in the log, never NaN."""

import logging
import math
from collections.abc import Callable
from typing import Any

log = logging.getLogger(__name__)


class Undefined(Exception):  # noqa: N818 - nobody's mistake
    """The data at hand do not define this score. The message says why."""


def offer(table: dict[str, float], name: str | tuple[str, ...], score: Callable[..., Any], *given: Any) -> None:
    """table[name] = score(*given), or one value for each of several names.

    What is undefined or not finite is left out, and the log says why.
    """
    names = (name,) if isinstance(name, str) else name
    try:
        found = score(*given)
        values = (found,) if isinstance(name, str) else found
        if not all(map(math.isfinite, values)):
            raise Undefined(f"got {', '.join(map(str, values))}")
    except Undefined as reason:
        log.info("no %s: %s", ", ".join(names), reason)
    else:
        table.update(zip(names, values, strict=True))
