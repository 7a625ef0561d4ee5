"""Stage check: the whole of params.yaml against its schema, and the device, before anything is computed.

Every other stage stands behind this one, and DVC removes a stage's outputs only when it comes to run it: a
mistake found here costs no earlier result. Writes data/checked, always the same, so that a new value in
params.yaml repeats this stage and then only those that read it.
"""

from pathlib import Path

from stages.autoencoder import arrays
from stages.autoencoder.errors import run
from stages.autoencoder.params import reading, schema

CHECKED = Path("data/checked")


def main() -> None:
    found = reading.read_yaml(reading.PARAMS)
    params = reading.validate(schema.Params, found, reading.PARAMS)
    schema.check(params)
    if params.device not in ("auto", "cpu"):
        from stages.autoencoder import devices  # imports torch, seconds that only a named device needs

        devices.check(params.device)
    arrays.write(CHECKED, b"params.yaml follows its schema\n")


if __name__ == "__main__":
    run(main)
