"""A model as files for other programs: ONNX, and the program that torch.export writes.

The models take uint8 images; dividing by 255 is part of them. Their outputs are `codes`, float32 (batch, D),
`reconstructions`, float32 (batch, C, H, W) in [0, 1], and `errors`, float32 (batch,), the MSE per pixel. `about`, a
JSON-able description of the model, goes into each file. No file holds a clock, a path or a host name, so that the
same model gives the same bytes. Import this module only to export: it imports onnx and onnxruntime.
"""

import io
import json
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.utils
import onnxruntime
import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

from stages.autoencoder.core import files
from stages.autoencoder.data.pixels import to_unit
from stages.autoencoder.model.autoencoder import Autoencoder, Spec
from stages.autoencoder.use import export_check
from stages.autoencoder.use.export_check import CODES, ERRORS, RECONSTRUCTIONS, Differences, ExportedModel

OPSET = 18  # ONNX's version of 2022: what torch writes without a conversion, and older runtimes read
OUTPUTS = (CODES, RECONSTRUCTIONS, ERRORS)  # of the whole model
PARTS = {  # what follows the stem of the file's name -> input and outputs
    "": ("images", OUTPUTS),
    ".encoder": ("images", (CODES,)),
    ".decoder": (CODES, (RECONSTRUCTIONS,)),
}
ABOUT = "about.json"  # the description's name in the file of torch.export
BATCH_SHAPES = ({0: torch.export.Dim("batch")},)  # of the one input: the first dimension has any size


class WholeModel(nn.Module):
    """uint8 images -> codes, reconstructions, errors."""

    def __init__(self, network: Autoencoder) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B, C, H, W) uint8 -> (B, D), (B, C, H, W) and (B,)."""
        pixels = to_unit(images)
        codes = self.network.encode(pixels)
        reconstructions = self.network.decode(codes)
        # squares and their mean in float64, as TrainedModel.score has them
        errors = (reconstructions - pixels).double().square().mean((1, 2, 3)).float()
        return codes, reconstructions, errors


def export_onnx(network: Autoencoder, about: Mapping[str, Any], path: Path, images: np.ndarray) -> Differences:
    """Write the whole model, its encoder and its decoder to the files that `onnx_paths` names: all or none.

    images: uint8 (N, C, H, W), on which ONNX Runtime is compared with torch before anything is written. Raises
    UserError if they differ, OSError as files.write does.
    """
    network = deepcopy(network).cpu().eval()
    contents = dict(zip(onnx_paths(path), build_onnx(network, about).values(), strict=True))
    models = [open_onnx(path.name, content) for path, content in contents.items()]
    differences = export_check.compare(models, network, images)
    with ExitStack() as written:  # each file gets its name when all of them are on the disk
        for target, content in contents.items():
            file = written.enter_context(files.writing(target, len(content)))
            file.write(content)
            file.flush()
    return differences


def onnx_paths(path: Path) -> list[Path]:
    """model.onnx -> model.onnx, model.encoder.onnx, model.decoder.onnx."""
    return [path.with_name(f"{path.stem}{part}{path.suffix}") for part in PARTS]


def build_onnx(network: Autoencoder, about: Mapping[str, Any]) -> dict[str, bytes]:
    """The content of an ONNX file for each of PARTS. network: on the CPU, in eval mode."""
    with _quiet():
        program = torch.onnx.export(
            _trace(network),
            input_names=["images"],
            output_names=OUTPUTS,
            dynamic_shapes=BATCH_SHAPES,
            opset_version=OPSET,
            verbose=False,
        )
        assert program is not None  # noqa: S101 - it is only for the old exporter
        extractor = onnx.utils.Extractor(program.model_proto)
        models = {part: extractor.extract_model([given], list(got)) for part, (given, got) in PARTS.items()}
        for part, model in models.items():
            _describe(model, part, network.spec, about)
            onnx.checker.check_model(model, full_check=True)
    return {part: model.SerializeToString(deterministic=True) for part, model in models.items()}


def open_onnx(name: str, content: bytes, threads: int = 0) -> ExportedModel:
    """An ONNX model in ONNX Runtime, on the CPU. threads: 0 for one for each core. name: for messages."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3  # errors: its warnings concern speed
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    outputs, (given,) = [output.name for output in session.get_outputs()], session.get_inputs()

    def run(values: np.ndarray) -> dict[str, np.ndarray]:
        return dict(zip(outputs, session.run(outputs, {given.name: values}), strict=True))

    return ExportedModel(name, given.name, run)


def export_program(network: Autoencoder, about: Mapping[str, Any], path: Path, images: np.ndarray) -> Differences:
    """Write the whole model as torch.export does, for torch.export.load. Checked and raising as `export_onnx`.

    The description is the extra file about.json in it.
    """
    network = deepcopy(network).cpu().eval()
    buffer = io.BytesIO()
    with _quiet():
        torch.export.save(_trace(network), buffer, extra_files={ABOUT: json.dumps(about, allow_nan=False)})
    content = buffer.getvalue()
    differences = export_check.compare([open_program(path.name, content)], network, images)
    files.write(path, content)
    return differences


def open_program(name: str, content: bytes) -> ExportedModel:
    """What `export_program` writes, read again. name: for messages."""
    with _quiet():
        module = torch.export.load(io.BytesIO(content)).module()

    @torch.no_grad()
    def run(images: np.ndarray) -> dict[str, np.ndarray]:
        outputs = module(torch.from_numpy(images))
        return {output: values.numpy() for output, values in zip(OUTPUTS, outputs, strict=True)}

    return ExportedModel(name, "images", run)


def _trace(network: Autoencoder) -> ExportedProgram:
    """The whole model as a graph of torch's operators that takes batches of any size."""
    example = torch.zeros(2, *network.spec.shape, dtype=torch.uint8)  # 2: torch takes 0 and 1 for special cases
    program = torch.export.export(WholeModel(network), (example,), dynamic_shapes=BATCH_SHAPES, strict=False)
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # paths of this machine
    return program


def _describe(model: onnx.ModelProto, part: str, spec: Spec, about: Mapping[str, Any]) -> None:
    """Replace torch's notes in a model by what a user wants to know about it."""
    shape = ", ".join(map(str, spec.shape))
    texts = {
        "images": f"pixels from 0 to 255, uint8 (batch, {shape})",
        CODES: f"float32 (batch, {spec.latent_dim})",
        RECONSTRUCTIONS: f"pixels from 0 to 1, float32 (batch, {shape})",
        ERRORS: "mean squared error over the pixels of each image, which are in [0, 1]; float32 (batch,)",
    }
    graph = model.graph
    for item in (*graph.node, *graph.initializer, *graph.input, *graph.output, *graph.value_info):
        item.ClearField("metadata_props")
        item.ClearField("doc_string")
    for value in (*graph.input, *graph.output):
        value.doc_string = texts[value.name]
    graph.name = part.removeprefix(".") or "autoencoder"
    model.producer_name = "autoencoder-pipeline"
    given, outputs = PARTS[part]
    lines = [f"{name}: {texts[name]}" for name in (given, *outputs)]
    model.doc_string = "\n".join([f"{graph.name}: {given} -> {', '.join(outputs)}", *lines])
    known = {"shape": spec.shape, "latent_dim": spec.latent_dim, **about}
    onnx.helper.set_model_props(model, {key: _to_text(known[key]) for key in sorted(known) if known[key] is not None})


def _to_text(value: Any) -> str:
    """A text as it is, anything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, allow_nan=False)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the log lines and warnings of torch's exporters, which concern their own code."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    finally:
        logging.disable(before)
