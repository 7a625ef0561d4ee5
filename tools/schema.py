"""`python -m tools.schema`: the schema of params.yaml as JSON Schema, so that editors complete and check it."""

import json
from pathlib import Path

from stages.autoencoder.params.schema import Params

SCHEMA = Path("docs/params.schema.json")


def text() -> str:
    """The JSON Schema of params.yaml, as it stands in docs/params.schema.json."""
    return json.dumps(Params.model_json_schema(), indent=2) + "\n"


if __name__ == "__main__":
    SCHEMA.write_text(text(), encoding="utf-8")
