"""The schema of params.yaml as JSON Schema, with which editors complete and check params.yaml."""

import json
from pathlib import Path

from stages.autoencoder.params.all_sections import Params

SCHEMA = Path("docs/params.schema.json")


def json_schema() -> str:
    """The text of docs/params.schema.json."""
    return json.dumps(Params.model_json_schema(), indent=2) + "\n"
