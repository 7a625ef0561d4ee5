"""`KEY=TEXT` as it is typed after `dvc exp run -S`."""

import re
import shlex

# no null and no number
PLAIN = re.compile(r"(?!(null|true|false|nan|inf)$|\.\d)[A-Za-z_./][A-Za-z0-9_./-]*", re.IGNORECASE)


def write_override(key: str, text: str) -> str:
    """The words of `key=text`, quoted where needed: for a shell, and within that for DVC's parser, which is Hydra's."""
    if PLAIN.fullmatch(text):
        return f"{key}={text}"
    quoted = re.sub(r"(\\*)'", r"\1\1\\'", text)  # Hydra halves backslashes before a quote, and no others
    quoted = re.sub(r"(\\+)$", r"\1\1", quoted)
    return shlex.quote(f"{key}='{quoted}'")
