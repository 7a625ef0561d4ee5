"""Exported models: what ONNX Runtime and torch.export compute from them, what the files say, and what is refused."""

import json
import os
import subprocess
import sys
import venv
from copy import deepcopy
from importlib import metadata
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from conftest import ROOT
from packaging.requirements import Requirement

from stages.autoencoder.core import files
from stages.autoencoder.core.errors import UserError
from stages.autoencoder.data.pixels import to_unit
from stages.autoencoder.model.autoencoder import Autoencoder, Spec
from stages.autoencoder.model.layers.batch_norm import BatchNorm
from stages.autoencoder.use import export_check, onnx_export
from stages.autoencoder.use.export_check import ExportedModel

ABOUT = {
    "variant": "sparse",
    "mse_threshold": 0.0123,
    "class_names": ["cat", "Käse", 'a "b"'],
    "fitting": {"size": [9, 14], "fit": "crop"},
    "beta": None,
}
CASES = {
    "mlp linear": Spec((1, 8, 8), 3, (), (12, 6), "linear"),
    "mlp relu": Spec((3, 5, 7), 6, (), (12,), "relu"),
    "mlp top_k": Spec((1, 8, 8), 1, (), (12,), "top_k", k=1),
    "mlp gaussian": Spec((1, 8, 8), 1, (), (), "gaussian"),
    "conv linear": Spec((1, 28, 28), 16, (8, 16), (64,), "linear"),
    "conv relu": Spec((3, 17, 17), 6, (4,), (), "relu"),
    "conv top_k": Spec((3, 9, 14), 12, (4, 6), (12,), "top_k", k=4),
    "mlp encode_k": Spec((1, 8, 8), 12, (), (12,), "top_k", k=7, encode_k=9),
    "conv gaussian": Spec((2, 1, 31), 4, (4,), (12,), "gaussian"),
}
RICH = "conv top_k"  # colour, odd sizes, all operators
COUNT = 500


def build_network(spec: Spec) -> Autoencoder:
    """A network as after training, in eval mode: statistics of its images, and outputs that depend on them."""
    torch.manual_seed(0)
    network = Autoencoder(spec)
    for module in network.modules():
        if isinstance(module, BatchNorm):
            module.momentum = None  # the average of all batches
            if module.affine:
                torch.nn.init.uniform_(module.weight, 0.5, 1.5)
                torch.nn.init.normal_(module.bias, 0, 0.3)
    with torch.no_grad():
        list(network.decoder.parameters())[-2].mul_(2)  # contrast: logits up to about 20, as after training
        for batch in torch.from_numpy(make_images(spec)).split(50):
            network(to_unit(batch))
    return network.eval()


def make_images(spec: Spec) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (COUNT, *spec.shape), np.uint8)


class Exported:
    """The files of one network, exported once, and what their export measured."""

    def __init__(self, spec: Spec, folder: Path) -> None:
        self.network, self.images = build_network(spec), make_images(spec)
        self.paths = onnx_export.onnx_paths(folder / "model.onnx")
        self.differences = onnx_export.export_onnx(self.network, ABOUT, self.paths[0], self.images)
        self.sessions = [onnxruntime.InferenceSession(path) for path in self.paths]


@pytest.fixture(scope="module")
def rich(tmp_path_factory):
    return Exported(CASES[RICH], tmp_path_factory.mktemp("rich"))


@pytest.fixture(scope="module", params=[name for name in CASES if name != RICH] + [RICH])
def exported(request, tmp_path_factory):
    if request.param == RICH:
        return request.getfixturevalue("rich")
    return Exported(CASES[request.param], tmp_path_factory.mktemp("exported"))


def run(session: onnxruntime.InferenceSession, values: np.ndarray, batch: int) -> list[np.ndarray]:
    """All outputs, joined over the batches."""
    name = session.get_inputs()[0].name
    batches = [session.run(None, {name: values[i : i + batch]}) for i in range(0, len(values), batch)]
    return [np.concatenate(parts) for parts in zip(*batches, strict=True)]


@torch.no_grad()
def compute_in_float64(network: Autoencoder, images: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Codes, reconstructions and errors, in float64."""
    exact, pixels = deepcopy(network).double(), torch.from_numpy(images).double() / 255
    codes = exact.encode(pixels)
    output = exact.decode(codes)
    return codes.numpy(), output.numpy(), (output - pixels).square().mean((1, 2, 3)).numpy()


def test_exported_models_compute_what_the_network_computes_in_batches_of_any_size(exported):
    codes, output, errors = compute_in_float64(exported.network, exported.images)
    tied = export_check.find_ties(exported.network, exported.images)
    assert tied.sum() < COUNT / 50
    code_limit = 1e-5 * np.abs(codes).max()
    whole, encoder, decoder = exported.sessions
    for batch in (1, 7, COUNT):
        got = run(whole, exported.images, batch)
        assert [array.dtype for array in got] == [np.float32] * 3
        assert np.abs(got[0] - codes)[~tied].max() < code_limit
        assert np.abs(got[1] - output)[~tied].max() < 1e-5
        assert (np.abs(got[2] / errors - 1)[~tied] < 1e-5).all()
        # rounded once, to float32: exact but for a digit in the last place
        float32_mse = np.square(got[1] - to_unit(exported.images), dtype=np.float64).mean((1, 2, 3))
        np.testing.assert_allclose(got[2], float32_mse, rtol=1.2e-7)
        assert np.abs(run(encoder, exported.images, batch)[0] - codes)[~tied].max() < code_limit
        assert np.abs(run(decoder, codes.astype(np.float32), batch)[0] - output).max() < 1e-5
    assert exported.differences.ties == tied.sum()
    assert 0 < exported.differences.reconstructions < 1e-5
    assert all(domain.domain == "" for path in exported.paths for domain in onnx.load(path).opset_import)


def test_images_are_uint8_and_the_first_dimension_is_the_batch(rich):
    channels, height, width = rich.network.spec.shape
    images = ("images", "tensor(uint8)", ["batch", channels, height, width])
    codes = ("codes", "tensor(float)", ["batch", 12])
    pictures = ("reconstructions", "tensor(float)", ["batch", channels, height, width])
    errors = ("errors", "tensor(float)", ["batch"])
    described = [
        [
            [(value.name, value.type, value.shape) for value in values]
            for values in (session.get_inputs(), session.get_outputs())
        ]
        for session in rich.sessions
    ]
    assert described == [[[images], [codes, pictures, errors]], [[images], [codes]], [[codes], [pictures]]]


def test_files_say_what_the_model_is(rich):
    names = [path.name for path in rich.paths]
    assert names == ["model.onnx", "model.encoder.onnx", "model.decoder.onnx"]
    for session in rich.sessions:
        said = session.get_modelmeta().custom_metadata_map
        assert said.keys() == {"shape", "latent_dim", "variant", "mse_threshold", "class_names", "fitting"}
        assert said["variant"] == "sparse"
        assert float(said["mse_threshold"]) == 0.0123
        assert json.loads(said["shape"]) == [3, 9, 14]
        assert json.loads(said["class_names"]) == ABOUT["class_names"]
    decoder = rich.sessions[2].get_modelmeta()
    assert decoder.graph_name == "decoder"
    assert decoder.description.splitlines() == [
        "decoder: codes -> reconstructions",
        "codes: float32 (batch, 12)",
        "reconstructions: pixels from 0 to 1, float32 (batch, 3, 9, 14)",
    ]


def find_paths(content: bytes) -> list[str]:
    """What in a file tells of this machine or of the lines of code that made it."""
    telling = (str(ROOT), sys.prefix, "site-packages", ".py", "stack_trace")
    return [text for text in telling if text.encode() in content]


EXPORT_AGAIN = f"""
import logging, sys
sys.path[:0] = {[str(ROOT), str(ROOT / "tests"), str(ROOT / "tests/use")]}
import conftest
from pathlib import Path
import test_onnx_export as tests
logging.basicConfig(level=logging.INFO)
spec, target = tests.CASES[tests.RICH], Path("again.onnx")
network = tests.build_network(spec)
for export, ending in ((tests.onnx_export.export_onnx, "onnx"), (tests.onnx_export.export_program, "pt2")):
    export(network, tests.ABOUT, Path("again." + ending), tests.make_images(spec)[:10])
"""


@pytest.fixture(scope="module")
def program(rich, tmp_path_factory):
    """The file of torch.export for the same network."""
    path = tmp_path_factory.mktemp("program") / "model.pt2"
    differences = onnx_export.export_program(rich.network, ABOUT, path, rich.images)
    assert differences.ties == rich.differences.ties
    return path


def test_same_model_gives_the_same_bytes_in_every_process_and_prints_nothing(rich, program, tmp_path):
    environment = {**os.environ, "PYTHONHASHSEED": "1"}
    command = [sys.executable, "-c", EXPORT_AGAIN]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    again = [*onnx_export.onnx_paths(tmp_path / "again.onnx"), tmp_path / "again.pt2"]
    assert sorted(tmp_path.iterdir()) == sorted(again)
    assert [path.read_bytes() for path in again] == [path.read_bytes() for path in (*rich.paths, program)]


def test_files_tell_nothing_of_the_machine(rich, program):
    telling = (str(ROOT), sys.prefix, "site-packages", ".py", "stack_trace")
    for path in (*rich.paths, program):
        assert [text for text in telling if text.encode() in path.read_bytes()] == []


def test_program_of_torch_export_computes_the_same(rich, program):
    about = {"about.json": ""}
    module = torch.export.load(program, extra_files=about).module()
    assert json.loads(about["about.json"]) == ABOUT
    expected = compute_in_float64(rich.network, rich.images)
    tied = export_check.find_ties(rich.network, rich.images)
    for batch in (1, 7, COUNT):
        with torch.no_grad():
            parts = [module(part) for part in torch.from_numpy(rich.images).split(batch)]
        for got, want in zip(map(torch.cat, zip(*parts, strict=True)), expected, strict=True):
            limit = 1e-5 * max(1, np.abs(want).max())
            np.testing.assert_allclose(got.numpy()[~tied], want[~tied], rtol=0, atol=limit)


def test_after_an_export_dense_layers_compute_by_onednn_again(rich):
    assert rich.network.decoder(torch.rand(4, 12)).grad_fn is not None
    layer = rich.network.encoder[-2]
    assert "_LinearBackward" in layer(torch.rand(4, 12)).grad_fn.name()


def compare(models: list[ExportedModel], exported: Exported) -> export_check.Differences:
    return export_check.compare(models, exported.network, exported.images[:20])


def change_weight(path: Path) -> bytes:
    """The file's content with its first matrix of weights a thousandth larger."""
    model = onnx.load(path)
    weights = next(each for each in model.graph.initializer if len(each.dims) > 1)
    weights.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(weights) * 1.001, weights.name))
    return model.SerializeToString()


@pytest.mark.parametrize(("number", "output"), [(0, "codes"), (1, "codes"), (2, "reconstructions")])
def test_a_changed_weight_is_found(rich, number, output):
    path = rich.paths[number]
    assert compare([onnx_export.open_onnx(path.name, path.read_bytes())], rich).ties == 0
    with pytest.raises(UserError, match=rf"^{path.name}: {output} must differ from torch's by at most 1e-05; got"):
        compare([onnx_export.open_onnx(path.name, change_weight(path))], rich)


@pytest.mark.parametrize(
    ("output", "change"),
    [("errors", lambda x: x * 1.00001), ("reconstructions", lambda x: x * np.nan), ("codes", lambda x: x[::-1])],
)
def test_every_output_is_compared(rich, output, change):
    model = onnx_export.open_onnx("model.onnx", rich.paths[0].read_bytes())

    def run_changed(values: np.ndarray) -> dict[str, np.ndarray]:
        outputs = dict(model.run(values))
        return {**outputs, output: change(outputs[output])}

    with pytest.raises(UserError, match=rf"model\.onnx: {output} must"):
        compare([model._replace(run=run_changed)], rich)


@pytest.mark.parametrize("failing", ["a difference", "a full disk"])
def test_after_a_failure_no_file_is_written(rich, tmp_path, monkeypatch, failing):
    contents = {part: path.read_bytes() for part, path in zip(onnx_export.PARTS, rich.paths, strict=True)}
    writing = files.writing

    def fill_disk(path, size):
        if "decoder" in path.name:  # the last of the three
            raise OSError(28, "No space left on device", str(path))
        return writing(path, size)

    if failing == "a difference":
        contents[".decoder"] = change_weight(rich.paths[2])
    else:
        monkeypatch.setattr(files, "writing", fill_disk)
    monkeypatch.setattr(onnx_export, "build_onnx", lambda *_: contents)
    target = tmp_path / "model.onnx"
    target.write_bytes(b"earlier")
    with pytest.raises((UserError, OSError), match=r"model\.decoder\.onnx"):
        onnx_export.export_onnx(rich.network, ABOUT, target, rich.images[:20])
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]
    assert target.read_bytes() == b"earlier"


def make_tie(k: int) -> tuple[Autoencoder, np.ndarray, np.ndarray]:
    """A network whose units 0 and 1 always have the same activation, images, and the images of which it keeps one."""
    network, images = build_network(Spec((1, 8, 8), 4, (), (), "top_k", k=k)), make_images(CASES["mlp linear"])
    last, norm = network.encoder[-2], network.encoder[-1]
    with torch.no_grad():
        for values in (last.weight, last.bias, norm.running_mean, norm.running_var):
            values[1] = values[0]
        activations = network.encoder(to_unit(torch.from_numpy(images))).numpy()
    larger = (activations[:, 2:] > activations[:, :1]).sum(1)  # units before the pair
    return network, images, larger == k - 1


@pytest.mark.parametrize("k", [1, 2])
def test_images_with_a_tie_are_counted_apart(k):
    """The exported model keeps unit 1 where torch keeps unit 0."""
    network, images, tied = make_tie(k)
    assert 0 < tied.sum() < COUNT

    def encode(values: np.ndarray) -> dict[str, np.ndarray]:
        with torch.no_grad():
            codes = network.encode(to_unit(torch.from_numpy(values))).numpy()
        return {"codes": codes[:, [1, 0, 2, 3]]}

    differences = export_check.compare([ExportedModel("encoder", "images", encode)], network, images)
    assert differences.ties == tied.sum()
    assert differences.codes < 1e-6  # of batches of another size
    assert (export_check.find_ties(network, images) == tied).all()
    with pytest.raises(UserError, match="codes must differ"):  # without a tie, the order of the units matters
        export_check.compare([ExportedModel("encoder", "images", encode)], build_network(network.spec), images)


@pytest.mark.parametrize(("factor", "taken"), [(1, True), (10, False)])
def test_a_network_that_rounds_more_than_the_limit_may_differ_by_as_much(factor, taken):
    """With logits in the thousands, float32 is further from float64 than the limit; a wrong export is further still."""
    spec = CASES["mlp linear"]
    network, images = build_network(spec), make_images(spec)
    with torch.no_grad():
        list(network.decoder.parameters())[-2].mul_(3e3)
        pixels = to_unit(torch.from_numpy(images))
        rounding = (network(pixels) - deepcopy(network).double()(pixels.double())).abs().max().numpy()
    assert rounding > 1e-5

    @torch.no_grad()
    def decode(codes: np.ndarray) -> dict[str, np.ndarray]:
        return {"reconstructions": network.decode(torch.from_numpy(codes)).numpy() + factor * rounding}

    models = [ExportedModel("decoder", "codes", decode)]
    if taken:
        assert export_check.compare(models, network, images).reconstructions > 1e-5
    else:
        with pytest.raises(UserError, match=r"^decoder: reconstructions must differ from torch's by at most "):
            export_check.compare(models, network, images)


def required(name: str) -> set[str]:
    """The installed distributions that `name` requires, itself included."""
    names, waiting = set(), [name]
    while waiting:
        names.add(current := waiting.pop())
        parsed = map(Requirement, metadata.requires(current) or [])
        needed = {each.name for each in parsed if each.marker is None or each.marker.evaluate({"extra": ""})}
        waiting += needed - names
    return names


RUN_ALONE = """
import importlib.util
import numpy, onnxruntime
for name in ("torch", "onnx", "stages"):
    assert importlib.util.find_spec(name) is None, name
session = onnxruntime.InferenceSession("model.onnx")
names = [output.name for output in session.get_outputs()]
outputs = session.run(None, {"images": numpy.load("images.npy")})
numpy.savez("outputs.npz", **dict(zip(names, outputs)))
"""


def test_exported_model_runs_with_onnx_runtime_alone(rich, tmp_path):
    """In an environment that has neither torch nor this project."""
    environment = tmp_path / "environment"
    venv.create(environment, symlinks=True)
    (packages,) = environment.glob("lib/python*/site-packages")
    for name in required("onnxruntime"):
        found = metadata.distribution(name)
        for entry in {file.parts[0] for file in found.files} - {"..", "__pycache__"}:
            (packages / entry).symlink_to(found.locate_file(entry))
    (tmp_path / "model.onnx").symlink_to(rich.paths[0])
    np.save(tmp_path / "images.npy", rich.images)
    (tmp_path / "alone.py").write_text(RUN_ALONE)
    subprocess.run([environment / "bin/python", "-I", "alone.py"], cwd=tmp_path, check=True)
    tied = export_check.find_ties(rich.network, rich.images)
    with np.load(tmp_path / "outputs.npz") as outputs:
        expected = compute_in_float64(rich.network, rich.images)
        for output, want in zip(("codes", "reconstructions", "errors"), expected, strict=True):
            np.testing.assert_allclose(outputs[output][~tied], want[~tied], atol=1e-5 * max(1, np.abs(want).max()))
