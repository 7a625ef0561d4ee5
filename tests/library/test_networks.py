"""Encoders and decoders: shapes, mirror, and the product that oneDNN computes."""

import numpy as np
import pytest
import torch
from torch import nn

from stages.autoencoder.core.errors import UserError
from stages.autoencoder.model import devices, networks
from stages.autoencoder.model.autoencoder import Autoencoder, Spec
from stages.autoencoder.model.layers.batch_norm import BatchNorm
from stages.autoencoder.model.layers.convolutions import DoublingConvolution
from stages.autoencoder.model.layers.dense import Dense

SIZES = [(1, 8, 8), (3, 17, 17), (1, 28, 28), (3, 32, 32), (2, 9, 14), (1, 5, 31)]


def autoencoder(shape=(1, 8, 8), architecture="mlp", latent_dim=3, bottleneck="linear", **more):
    channels, widths = {"mlp": ((), (12, 6)), "conv": ((4, 6, 8), (12,))}[architecture]
    return Autoencoder(Spec(shape, latent_dim, channels, widths, bottleneck, **more))


@pytest.mark.parametrize("shape", SIZES)
@pytest.mark.parametrize("architecture", ["mlp", "conv"])
def test_images_of_any_size_come_back_in_their_own_shape_and_range(shape, architecture):
    images = torch.rand(4, *shape)
    model = autoencoder(shape, architecture)
    assert model.encode(images).shape == (4, 3)
    output = model(images)
    assert output.shape == images.shape
    assert 0 <= output.min() <= output.max() <= 1


@pytest.mark.parametrize("shape", SIZES)
@pytest.mark.parametrize("architecture", ["mlp", "conv"])
def test_the_decoder_reverses_the_sizes_of_the_encoder(shape, architecture):
    """Sizes of all feature maps (or widths of all layers), recorded by hooks on the modules that make them."""
    model = autoencoder(shape, architecture).eval()
    makers = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)
    seen = {"encoder": [], "decoder": []}
    for name, sizes in seen.items():
        for module in getattr(model, name).modules():
            if isinstance(module, makers):
                module.register_forward_hook(
                    lambda m, given, got, sizes=sizes: sizes.append((given[0].shape[1:], got.shape[1:]))
                )
    model(torch.rand(2, *shape))
    assert seen["encoder"] == [(after, before) for before, after in reversed(seen["decoder"])]
    assert len(seen["encoder"]) == {"mlp": 3, "conv": 5}[architecture]


def test_sizes_are_halved_rounding_up():
    assert networks.halved_sizes((1, 28, 17), 3) == [(28, 17), (14, 9), (7, 5), (4, 3)]


def test_images_of_another_shape_are_refused_with_both_shapes():
    with pytest.raises(UserError, match=r"images must be \(1, 8, 8\) each; got \(1, 8, 9\)"):
        autoencoder()(torch.rand(2, 1, 8, 9))


@pytest.mark.parametrize("size", [(0, 3, 5), (1, 7, 7), (2, 3, 5), (64, 784, 16), (128, 16, 784), (5, 3000, 4)])
@pytest.mark.parametrize("lying", ["as it comes", "transposed", "every second number", "one image repeated"])
@pytest.mark.parametrize("numerics", ["portable", "fast"])
def test_dense_gives_the_numbers_and_gradients_of_linear(size, lying, numerics):
    devices.prepare("cpu", numerics)
    batch, inputs, outputs = size
    x = {
        "as it comes": torch.rand(batch, inputs),
        "transposed": torch.rand(inputs, batch).t(),
        "every second number": torch.rand(batch, 2 * inputs)[:, ::2],
        "one image repeated": torch.rand(1, inputs).expand(batch, inputs),
    }[lying].requires_grad_()
    dense = Dense(inputs, outputs)
    leaves = [x, dense.weight, dense.bias]
    expected = nn.functional.linear(*(leaf.double() for leaf in leaves))
    got = dense(x)
    torch.testing.assert_close(got.double(), expected, rtol=1e-5, atol=1e-5)
    for loss in (torch.Tensor.square, torch.Tensor.abs, lambda y: y):  # the last one's gradient is one number, repeated
        gradients = (torch.autograd.grad(loss(y).sum(), leaves, retain_graph=True) for y in (got, expected))
        for a, b in zip(*gradients, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("grid", [(28, 28), (7, 8), (1, 5), (2, 1)])
@pytest.mark.parametrize("batch", [0, 1, 5])
@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last])
def test_doubling_gives_the_numbers_and_gradients_of_a_transposed_convolution(channels, grid, batch, order):
    layer = DoublingConvolution(6, channels, grid, bias=True).to(memory_format=order)
    half = [(size + 1) // 2 for size in grid]
    x = torch.rand(batch, 6, *half).to(memory_format=order).requires_grad_()
    leaves = [x, layer.weight, layer.bias]
    missing = [1 - size % 2 for size in grid]
    doubles = [leaf.double() for leaf in leaves]
    expected = nn.functional.conv_transpose2d(*doubles, stride=2, padding=1, output_padding=missing)
    got = layer(x)
    assert got.shape == (batch, channels, *grid)
    torch.testing.assert_close(got.double(), expected, rtol=1e-5, atol=1e-5)
    gradients = (torch.autograd.grad(y.square().sum(), leaves) for y in (got, expected))
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


def test_dense_multiplies_in_bfloat16_under_autocast():
    dense, x = Dense(784, 16), torch.rand(64, 784)
    with torch.autocast("cpu", torch.bfloat16):
        assert dense(x).dtype == torch.bfloat16


def test_batch_norm_behind_dense_rounds_square_roots_correctly():
    """NumPy's are, torch's own are not always: their last bit is the CPU's, which portable numerics rule out."""
    devices.prepare("cpu", "portable")
    norm = nn.BatchNorm1d(512)
    norm.running_var.uniform_(0.1, 2.0, generator=torch.Generator().manual_seed(0))
    layer = nn.Sequential(Dense(784, 512), norm).eval()
    with torch.no_grad():
        x = torch.rand(64, 784)
        roots = np.sqrt((norm.running_var + norm.eps).numpy())
        assert (layer(x).numpy() == layer[0](x).numpy() * (1 / roots)).all()


def test_top_k_keeps_the_k_largest_and_drops_the_rest():
    model = autoencoder(latent_dim=6, bottleneck="top_k", k=2).eval()
    images = torch.rand(5, 1, 8, 8)
    h, z = model.encoder(images), model.encode(images)
    for before, after in zip(h.tolist(), z.tolist(), strict=True):
        kept = sorted(before)[-2:]
        assert after == [value if value in kept else 0 for value in before]


def test_codes_have_encode_k_entries_and_reconstructions_the_k_largest_of_them():
    """NumPy sorts the activations. The decoder takes 4 of 6 entries: of some images one of these is negative."""
    model, images = autoencoder(latent_dim=6, bottleneck="top_k", k=4, encode_k=5), torch.rand(50, 1, 8, 8)
    for layer in model.modules():
        if isinstance(layer, BatchNorm):
            layer.momentum = 1.0  # the statistics are those of these images
    model(images)
    model.eval()
    with torch.no_grad():
        h, z, output = model.encoder(images).numpy(), model.encode(images), model(images)
        rank = (-h).argsort(1).argsort(1)
        np.testing.assert_array_equal(z.numpy(), np.where(rank < 5, h, 0))
        assert (h[rank == 3] < 0).any()
        expected = model.decoder(torch.from_numpy(np.where(rank < 4, h, 0))).sigmoid()
        assert torch.equal(output, expected)
        assert torch.equal(model.decode(z), expected)


def test_codes_of_encode_k_equal_to_k_are_those_without_it():
    images = torch.rand(50, 1, 8, 8)
    plain, same = (autoencoder(latent_dim=6, bottleneck="top_k", k=4, encode_k=n).eval() for n in (0, 4))
    same.load_state_dict(plain.state_dict())
    for function in ("encode", "__call__"):
        assert torch.equal(getattr(plain, function)(images), getattr(same, function)(images))


def test_relu_codes_are_not_negative_and_gaussian_codes_have_mean_and_log_variance():
    images = torch.rand(64, 1, 8, 8)
    z = autoencoder(bottleneck="relu").encode(images)
    assert (z >= 0).all()
    assert (z == 0).any()
    model = autoencoder(bottleneck="gaussian")
    code = model.code(images)
    assert code.mean.shape == code.log_var.shape == (64, 3)
    assert torch.equal(code.z, code.mean)
    sampled = model.code(images, torch.Generator().manual_seed(0))
    assert not torch.equal(sampled.z, sampled.mean)


@pytest.mark.parametrize(
    ("side", "channels"),
    [
        *((side, (16, 32, 64)) for side in (8, 28, 64)),
        *((side, (16, 32, 64, 64)) for side in (65, 128)),
        (129, (8, 16, 32, 64, 64)),
        (256, (8, 16, 32, 64, 64)),
        (4096, (8, 16, 32, 64, 64, 64, 64, 64)),
    ],
)
def test_larger_images_are_halved_more_often(side, channels):
    assert networks.suitable_channels((3, side, side // 2 + 1)) == channels
    assert networks.suitable_channels((1, side // 2 + 1, side)) == channels
