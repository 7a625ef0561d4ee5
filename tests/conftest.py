"""What the tests share: the pinned environment, a small configuration, folders laid out as the stages expect."""

import gc
import shutil
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from stages.runtime import numerics  # noqa: F401  pins the environment before any test imports NumPy or torch
from tools.workspace.pipeline_file import stage_names

gc.enable()  # that module stops it until a stage starts
ROOT = Path(__file__).resolve().parent.parent
yaml = YAML()

TINY = {  # a pipeline of seconds: 8 x 8 digits, a small mlp, two epochs
    "latent_dim": 4,
    "download": {"dataset": "digits"},
    "train": {"architecture": "mlp", "mlp": {"widths": [16]}, "epochs": 2, "batch_size": 32, "learning_rate": 0.01},
}


WAITING = ("test_pipeline.py", "test_sweep.py", "test_own_images.py")  # these wait for DVC's queue and its workers


def pytest_collection_modifyitems(items):
    """Start the tests that wait first: the other worker computes meanwhile, then takes over what is left."""
    items.sort(key=lambda item: item.path.name not in WAITING)


def merged(values: dict, changes: dict) -> dict:
    """`values` with `changes` laid over it, section by section."""
    for key, change in changes.items():
        if isinstance(change, dict) and isinstance(values.get(key), dict):
            merged(values[key], change)
        else:
            values[key] = change
    return values


@pytest.fixture
def params():
    """params.yaml as it is committed, as plain values to be changed."""
    return YAML(typ="safe").load((ROOT / "params.yaml").read_text())


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    """An empty folder to run stages in: returns a function that writes params.yaml with TINY and changes."""
    monkeypatch.chdir(tmp_path)

    def write(changes: dict | None = None) -> Path:
        values = yaml.load((ROOT / "params.yaml").read_text())
        with (tmp_path / "params.yaml").open("w") as file:
            yaml.dump(merged(merged(values, TINY), changes or {}), file)
        return tmp_path

    return write


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """A folder in which every stage has run with TINY: to copy from, not to change."""
    folder = tmp_path_factory.mktemp("finished")
    values = yaml.load((ROOT / "params.yaml").read_text())
    with (folder / "params.yaml").open("w") as file:
        yaml.dump(merged(values, TINY), file)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for name in stage_names():
            __import__(f"stages.{name}", fromlist=["main"]).main()
    return folder


@pytest.fixture
def copy(finished, tmp_path, monkeypatch):
    """A copy of `finished` to work in."""
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path
