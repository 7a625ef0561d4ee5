"""The Python interface: what it takes, refuses and gives."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT
from PIL import Image

from stages.autoencoder.core import arrays
from stages.autoencoder.use import UserError, load_model
from tests.support import model_files, stage_folders


@pytest.fixture
def model(workspace):
    stage_folders.make(workspace({"embed": {"map": "none"}}), shape=(1, 8, 8))
    return load_model("data/model.safetensors", "cpu")


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(0, 256, (5, 1, 8, 8), np.uint8)


@pytest.mark.parametrize("convert", [
    lambda x: x,
    lambda x: x / np.float32(255),
    lambda x: x / np.float64(255),
    torch.from_numpy,
    lambda x: (torch.from_numpy(x) / 255).requires_grad_(),
])  # fmt: skip
def test_images_of_each_kind_give_the_same_plain_arrays(model, images, convert):
    given = convert(images)
    with torch.no_grad():
        tensor = torch.from_numpy(images) / 255
        codes, output = model.network.encode(tensor).numpy(), model.network(tensor).numpy()
    for found, expected in ((model.encode(given), codes), (model.reconstruct(given), output)):
        assert type(found) is np.ndarray
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(model.decode(model.encode(given)), output, rtol=1e-5, atol=1e-6)
    errors = model.errors(given)
    assert errors.dtype == np.float64
    np.testing.assert_allclose(errors, np.square(output - images / 255).mean((1, 2, 3)), rtol=1e-5)
    for name in ("combined", "mse", "rapp", "mahalanobis", "density"):
        score = model.score(given, name)
        assert score.dtype == np.float64
        np.testing.assert_allclose(score, model.score(images, name), rtol=1e-5)
    assert np.array_equal(model.score(given), errors)  # its file names mse


REFUSED = {
    "0 to 255 as float": (lambda x: x.astype(float), "got values from 0 to 255; divide 8-bit values by 255"),
    "integers": (lambda x: x.astype(np.int64), "got int64"),
    "one image without its axis": (lambda x: x[0], r"got uint8 \(1, 8, 8\)"),
    "another size": (lambda x: x[:, :, :7], r"got uint8 \(5, 1, 7, 8\)"),
    "NaN": (lambda x: np.full(x.shape, np.nan), "got values from nan to nan"),
    "no image": (lambda x: x[:0], r"got uint8 \(0, 1, 8, 8\)"),
    "texts": (lambda x: np.full(x.shape, "a"), "got <U1"),
    "booleans": (lambda x: x > 3, "got bool"),
}


@pytest.mark.parametrize("kind", REFUSED)
@pytest.mark.parametrize("method", ["encode", "reconstruct", "score"])
def test_other_images_are_refused_in_one_line(model, images, kind, method):
    spoil, reason = REFUSED[kind]
    with pytest.raises(UserError, match=rf"^images must be uint8, or float in \[0, 1\], \(N, 1, 8, 8\); {reason}") as e:
        getattr(model, method)(spoil(images))
    assert "\n" not in str(e.value)


@pytest.mark.parametrize("codes", [np.zeros((2, 4)), np.zeros(3), np.full((2, 3), "a"), np.zeros((0, 3))])
def test_other_codes_are_refused(model, codes):
    with pytest.raises(UserError, match=r"^codes must be numbers \(N, 3\); got "):
        model.decode(codes)


@pytest.mark.parametrize("options", [{"count": 0}, {"count": 3, "spread": 1.5}, {"count": 3, "spread": float("nan")}])
def test_impossible_samples_are_refused(model, options):
    with pytest.raises(UserError, match=r"^count must be at least 1 and spread in "):
        model.generate(**options)


def test_generated_images_are_decoded_samples_of_the_mixture(model, images):
    np.testing.assert_array_equal(model.generate(3, seed=5), model.decode(model.mixture.sample(3, 5)))
    near = model.generate(4, near=images[2], spread=0)
    np.testing.assert_allclose(near, np.repeat(model.reconstruct(images[2:3]), 4, 0), atol=1e-6)
    assert not np.allclose(model.generate(4, near=images[2], spread=0.5), near, atol=1e-3)


def test_an_interpolation_begins_and_ends_with_the_reconstructions(model, images):
    line = model.interpolate(images[:2], steps=6)
    assert line.shape == (6, 1, 8, 8)
    np.testing.assert_allclose(line[[0, -1]], model.reconstruct(images[:2]), atol=1e-6)
    way = model.interpolate(images[:3], steps=6)
    assert way.shape == (11, 1, 8, 8)
    np.testing.assert_allclose(way[:6], line, atol=1e-6)
    np.testing.assert_allclose(way[[5, 10]], model.reconstruct(images[1:3]), atol=1e-6)


@pytest.mark.parametrize(("count", "steps"), [(2, 1), (1, 6)])
def test_an_interpolation_needs_two_images_and_two_steps(model, images, count, steps):
    with pytest.raises(
        UserError, match=rf"^steps and the number of images must be at least 2; got {steps} and {count}"
    ):
        model.interpolate(images[:count], steps)


def test_only_a_denoising_model_denoises(model, images, tmp_path):
    with pytest.raises(UserError, match=r"^the model must be trained to denoise; this one is undercomplete; "):
        model.denoise(images)
    path = tmp_path / "denoising"
    model_files.save(path, model.network, "gaussian", variant="denoising")
    np.testing.assert_array_equal(load_model(path, "cpu").denoise(images), model.reconstruct(images))


def test_files_are_read_as_those_of_the_training(model, tmp_path):
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (8, 8), np.uint8))
    image.save(tmp_path / "a.png")
    image.convert("RGB").save(tmp_path / "b.bmp")
    image.resize((16, 16), Image.Resampling.NEAREST).save(tmp_path / "c.png")
    read = model.read([tmp_path / "a.png", str(tmp_path / "b.bmp")])
    assert read.dtype == np.uint8
    np.testing.assert_array_equal(read[:, 0], np.stack([image, image]))
    contents = [(tmp_path / "a.png").read_bytes(), b"no image"]
    np.testing.assert_array_equal(model.read(contents[:1]), read[:1])
    with pytest.raises(UserError, match=r"^image 1: is no PNG, JPEG"):
        model.read(contents)
    with pytest.raises(UserError, match=r"c\.png: has 16 x 16 pixels \(width x height\); it must have 8 x 8$"):
        model.read([tmp_path / "c.png"])
    assert model.read([tmp_path / "c.png"], fit="crop").shape == (1, 1, 8, 8)
    with pytest.raises(UserError, match=r"none\.png: cannot be read: No such file"):
        model.read([tmp_path / "none.png"])


def test_codes_and_errors_are_those_of_the_pipeline_to_the_last_bit(model):
    stage_folders.run()
    test = stage_folders.read_images()
    np.testing.assert_array_equal(model.encode(test), arrays.load(Path("data/embeddings.safetensors"))[0]["test"])
    output = arrays.load(Path("data/reconstructions.safetensors"))[0]["output"]
    np.testing.assert_array_equal(model.reconstruct(test), output)
    errors = np.square(output - test / np.float32(255), dtype=np.float64).mean((1, 2, 3))
    np.testing.assert_allclose(model.errors(test), errors, rtol=1e-14)
    assert stage_folders.metrics()["mse"] == model.errors(test).mean()


@pytest.mark.parametrize(("bottleneck", "name"), [("linear", "elbo"), ("gaussian", "density"), ("linear", "auroc\x1b")])
def test_a_score_that_the_model_has_not_is_refused(workspace, images, bottleneck, name):
    stage_folders.make(workspace({"embed": {"map": "none"}}), shape=(1, 8, 8), bottleneck=bottleneck)
    held = load_model("data/model.safetensors", "cpu")
    with pytest.raises(UserError, match=r"must be one of combined, mse, rapp, mahalanobis, (elbo|density); got"):
        held.score(images, name)


def test_an_absent_device_is_one_line(model):
    with pytest.raises(UserError, match=r"^device must be present on this machine; got cuda:77, "):
        load_model("data/model.safetensors", "cuda:77")


def test_it_loads_in_a_plain_python_that_has_imported_torch(model, tmp_path):
    """And says nothing: no warning, no log line."""
    program = (
        re.sub(
            r"\n +",
            "\n",
            """
        import torch
        from stages.autoencoder.use import load_model
        model = load_model("%s")
        codes = model.encode(torch.rand(2, 1, 8, 8))
        print(codes.shape)""",
        )
        % Path("data/model.safetensors").absolute()
    )
    ended = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (ended.stdout, ended.stderr) == ("(2, 3)\n", "")
