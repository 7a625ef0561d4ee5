"""dvc.yaml of a checkout."""

from pathlib import Path

from stages.autoencoder.params.base.loader import read_yaml
from tools.workspace.copies import ROOT


def stage_names(folder: Path = ROOT) -> list[str]:
    """The stages in the order of dvc.yaml, in which they run."""
    return list(read_yaml(folder / "dvc.yaml")["stages"])
