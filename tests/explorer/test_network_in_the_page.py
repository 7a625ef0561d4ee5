"""The network that runs in the page against torch's, in a browser."""

from itertools import product

import numpy as np
import pytest
import torch

from stages.autoencoder.model import inference
from stages.autoencoder.model.bottlenecks import Bottleneck
from tests.explorer.pages import CPU, OpenPage, make_experiment, make_network, open_browser, write_page

KINDS = [
    *product(Bottleneck, [(4, 6, 8), ()], [(1, 13, 10)]),
    (Bottleneck.LINEAR, (4, 6, 8), (3, 16, 9)),
    (Bottleneck.GAUSSIAN, (), (3, 8, 8)),
]
RUN = """() => [...Array(100).keys()].map(index => {
  const pixels = explorer.imagePixels(index);
  const { code, logVar } = explorer.encode(pixels);
  return [pixels, code, logVar ?? [], explorer.decode(code)].map(values => Array.from(values));
})"""


@pytest.fixture(scope="module")
def browser():
    with open_browser() as opened:
        yield opened


@pytest.mark.parametrize(("bottleneck", "channels", "shape"), KINDS)
def test_codes_and_images_of_the_page_are_those_of_torch(browser, tmp_path, bottleneck, channels, shape):
    check_page(browser, tmp_path, make_network(shape, 6, channels, (20, 12), bottleneck))


def test_codes_of_encode_k_entries_and_the_images_of_the_largest_are_those_of_torch(browser, tmp_path):
    check_page(browser, tmp_path, make_network((1, 13, 10), 6, (), (20, 12), "top_k", encode_k=4))


def check_page(browser, tmp_path, network):
    """Codes and images that the page computes for 100 images, against torch's."""
    experiment = make_experiment(network)
    opened = OpenPage(browser, write_page(tmp_path, experiment))
    pixels, codes, log_vars, outputs = (np.array(values) for values in zip(*opened.page.evaluate(RUN), strict=True))
    assert opened.complaints == []
    images = experiment.images.reshape(100, -1)
    np.testing.assert_array_equal(pixels.astype(np.float32), images / np.float32(255))
    np.testing.assert_allclose(codes, experiment.codes, rtol=0, atol=1e-5 * np.abs(experiment.codes).max())
    expected = inference.decode(network, experiment.codes, CPU).reshape(100, -1)
    np.testing.assert_allclose(outputs, expected, rtol=0, atol=1e-5)
    if network.is_variational:
        with torch.no_grad():
            log_var = network.code(torch.from_numpy(experiment.images / np.float32(255))).log_var
        np.testing.assert_allclose(log_vars, log_var, rtol=0, atol=1e-5)
    opened.context.close()
