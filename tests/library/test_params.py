"""params.yaml: what is refused, and in which words."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml as pyyaml
from conftest import ROOT
from ruamel.yaml import YAML

from stages import check, train
from stages.autoencoder.core.errors import UserError
from stages.autoencoder.params.all_sections import Params
from stages.autoencoder.params.base import loader
from stages.autoencoder.params.split import SplitParams
from stages.autoencoder.params.train import TrainParams


def refusal(workspace, changes):
    workspace(changes)
    with pytest.raises(UserError) as refused:
        check.main()
    message = str(refused.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"latent_dim": 0}, "params.yaml: latent_dim must be an integer >= 1 and <= 65536; got 0"),
        ({"latent_dim": "abc"}, "params.yaml: latent_dim must be an integer >= 1 and <= 65536; got 'abc'"),
        ({"latent_dim": 4.0}, "params.yaml: latent_dim must be an integer >= 1 and <= 65536; got 4.0"),
        ({"latent_dim": True}, "params.yaml: latent_dim must be an integer >= 1 and <= 65536; got True"),
        ({"latent_dim": None}, "params.yaml: latent_dim must be an integer >= 1 and <= 65536; got None"),
        ({"seed": -1}, "params.yaml: seed must be an integer >= 0 and < 4294967296; got -1"),
        ({"device": "gpu"}, "params.yaml: device must be one of auto, cpu, cuda, cuda:N, mps; got 'gpu'"),
        ({"sample": {"count": -1}}, "params.yaml: sample.count must be an integer >= 0 and <= 100000; got -1"),
        (
            {"sample": {"count": 10**9}},
            "params.yaml: sample.count must be an integer >= 0 and <= 100000; got 1000000000",
        ),
        ({"sample": {"count": True}}, "params.yaml: sample.count must be an integer >= 0 and <= 100000; got True"),
        ({"train": {"epoch": 3}}, "params.yaml: unknown key train.epoch; did you mean train.epochs?"),
        ({"latent_dims": 3}, "params.yaml: unknown key latent_dims; did you mean latent_dim?"),
        (
            {"train": {"learning_rate": float("nan")}},
            "params.yaml: train.learning_rate must be a number > 0 and <= 10; got nan",
        ),
        ({"train": {"rate": 0.1}}, "params.yaml: unknown key train.rate; it is now train.learning_rate"),
        ({"train": {"clip": 1.0}}, "params.yaml: unknown key train.clip; it is now train.max_grad_norm"),
        ({"train": {"architecture": "cnn"}}, "params.yaml: train.architecture must be one of mlp, conv; got 'cnn'"),
        ({"train": 3}, "params.yaml: train must be a section of keys; got 3"),
        (
            {"train": {"mlp": {"widths": [8, -1]}}},
            "params.yaml: train.mlp.widths[1] must be an integer >= 1 and <= 65536; got -1",
        ),
    ],
)
def test_a_wrong_value_is_named_with_its_rule(workspace, changes, message):
    assert refusal(workspace, changes) == message


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"dataset": "/home/me/photos"},
            r"download.dataset must be one of mnist5k, .*, or folder for your own images, with their path in"
            r" download.folder; got '/home/me/photos'$",
        ),
        (
            {"dataset": "mnist5k", "mirror": "/home/me/photos"},
            r"download.mirror must be null with dataset mnist5k, which is not fetched; got '/home/me/photos'; for your"
            r" own images set download.dataset=folder and download.folder$",
        ),
        ({"dataset": "folder", "mirror": "/mirror"}, "download.mirror must be null with dataset folder"),
        (
            {"dataset": "mnist", "folder": "photos"},
            r"download.folder must be images with dataset mnist; got 'photos'; for your own images set"
            r" download.dataset=folder$",
        ),
        ({"dataset": "mnist", "size": [8, 8]}, r"download.size must be null with dataset mnist; got \[8, 8\]"),
        ({"folder": "~/photos"}, r"download.folder must be the path of a folder, absolute or .*, without ~; got '~/ph"),
        ({"folder": None}, "download.folder must be the path of a folder, .*; got None"),
        ({"folder": ""}, "download.folder must be the path of a folder, .*; got ''"),
        ({"size": [64]}, r"download.size must be \[height, width\], each 1 to 4096 pixels, or null; got \[64\]"),
        ({"size": 64}, r"download.size must be \[height, width\], each 1 to 4096 pixels, or null; got 64"),
        ({"size": [0, 64]}, r"download.size\[0\] must be an integer >= 1 and <= 4096; got 0$"),
        ({"colour": "color"}, "download.colour must be one of rgb, grey; got 'color'"),
        ({"fit": "fill"}, "download.fit must be one of crop, pad, stretch; got 'fill'"),
    ],
)
def test_own_images_are_asked_for_by_the_right_keys(workspace, changes, message):
    assert re.match(f"params.yaml: {message}", refusal(workspace, {"download": changes}))


def test_the_size_of_own_images_bounds_the_code(workspace):
    changes = {"latent_dim": 192, "download": {"dataset": "folder", "folder": ".", "size": [8, 8]}}
    assert "latent_dim must be below the 192 numbers of an image" in refusal(workspace, changes)


def test_a_class_may_have_any_name_of_yaml(workspace):
    folder = workspace({"split": {"normal_classes": [1, "01", None, True, 1.5, "no"]}})
    assert loader.load(SplitParams, folder / "params.yaml").split.normal_names == [
        "1",
        "01",
        "null",
        "true",
        "1.5",
        "no",
    ]
    values = loader.read_yaml(folder / "params.yaml")
    values["split"]["normal_classes"] = [int("9" * 4000) ** 2]
    message = r"split.normal_classes\[0\] must be the name of a class, .*; got a number of thousands of digits$"
    with pytest.raises(UserError, match=message):
        loader.validate(SplitParams, {"split": values["split"]}, Path("params.yaml"))


@pytest.mark.parametrize(
    ("channels", "message"),
    [
        ("big", "train.conv.channels must be auto, or a list of 1 to 8 integers >= 1 and <= 65536; got 'big'"),
        ([], "train.conv.channels must be auto, or a list of 1 to 8 integers >= 1 and <= 65536; got []"),
        ([8, 0], "train.conv.channels must be auto, or a list of 1 to 8 integers >= 1 and <= 65536; got [8, 0]"),
    ],
)
def test_a_wrong_value_where_several_types_are_right_is_one_mistake(workspace, channels, message):
    assert refusal(workspace, {"train": {"conv": {"channels": channels}}}) == f"params.yaml: {message}"


def test_an_unknown_key_that_resembles_none_lists_the_known_ones(workspace):
    assert refusal(workspace, {"split": {"zzz": 1}}) == (
        "params.yaml: unknown key split.zzz; known: normal_classes, seed, test, valid"
    )


def test_a_second_mistake_is_counted(workspace):
    assert refusal(workspace, {"latent_dim": 0, "seed": -1}).endswith("got 0 (and 1 more)")


def test_a_misspelt_key_is_named_before_the_missing_one(workspace):
    path = workspace() / "params.yaml"
    path.write_text(path.read_text().replace("latent_dim: 4", "latent_dims: 4"))
    with pytest.raises(UserError, match=r"unknown key latent_dims; did you mean latent_dim\?$"):
        check.main()


def test_a_stage_names_a_misspelt_key_at_the_top_level_too(workspace):
    path = workspace({"split": {"zzz": 1}}) / "params.yaml"  # a mistake that is no affair of train
    path.write_text(path.read_text().replace("latent_dim: 4", "latent_dims: 4"))
    with pytest.raises(UserError, match=r"^params.yaml: unknown key latent_dims; did you mean latent_dim\?$"):
        loader.load(TrainParams)


def test_a_renamed_key_counts_as_one_mistake(workspace):
    path = workspace() / "params.yaml"
    path.write_text(path.read_text().replace("learning_rate:", "rate:").replace("seed: 0  ", "seed: -1"))
    message = r"unknown key train.rate; it is now train.learning_rate \(and 2 more\)$"  # both seeds
    with pytest.raises(UserError, match=message):
        check.main()


def test_a_missing_key_is_asked_for(workspace):
    folder = workspace()
    path = folder / "params.yaml"
    path.write_text("\n".join(line for line in path.read_text().splitlines() if not line.startswith("seed:")))
    with pytest.raises(UserError, match=r"^params.yaml: seed is missing; add it: an integer >= 0"):
        check.main()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "params.yaml: must be a mapping of keys to values; got None"),
        ("- 1\n", "params.yaml: must be a mapping of keys to values; got [1]"),
        ("seed: 1\nseed: 2\n", "params.yaml: line 2, column 1 is not valid YAML; found duplicate key"),
        ("seed:\t1\n\tx: 2\n", "params.yaml: line 1, column 6 is not valid YAML; found character"),
        ("a: !!python/object/apply:os.system [echo]\n", "params.yaml: line 1, column 4 is not valid YAML; could not"),
        ("a: [" * 5000, "params.yaml: is not valid YAML; RecursionError"),
        ("!" * 60_000, "params.yaml: line 1, column 1 is not valid YAML; could not determine a constructor"),
    ],
)
def test_a_file_that_is_no_parameter_file_is_refused(workspace, content, message):
    (workspace() / "params.yaml").write_text(content)
    with pytest.raises(UserError) as refused:
        check.main()
    assert str(refused.value).startswith(message)
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 500


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("0x" + "f" * 5000, "latent_dim must be an integer >= 1 and <= 65536; got a number of thousands of digits"),
        ("&a [*a]", "latent_dim must be an integer >= 1 and <= 65536; got [[[[...]]]]"),
        ("'" + "x" * 9999 + "'", "latent_dim must be an integer >= 1 and <= 65536; got 'xxx"),
        ("4\n" + "x" * 1000 + ": 1", "unknown key " + "x" * 77 + "...; known: "),
        ('4\n"\\u202e\\0": 1', r"unknown key \u202e\x00; known: "),
    ],
)
def test_an_endless_value_or_key_is_named_in_one_short_line(workspace, value, message):
    path = workspace() / "params.yaml"
    path.write_text(path.read_text().replace("latent_dim: 4 ", f"latent_dim: {value} #"))
    with pytest.raises(UserError) as refused:
        check.main()
    assert str(refused.value).startswith(f"params.yaml: {message}")
    assert len(str(refused.value)) < 300
    assert str(refused.value).isprintable()


def test_a_value_that_doubles_with_each_alias_is_not_written_out(workspace):
    """`billion laughs`: 2 ** 40 leaves for whoever follows every alias."""
    laughs = "a0: &a0 [x, x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]\n" for i in range(1, 41))
    path = workspace() / "params.yaml"
    path.write_text(laughs + path.read_text().replace("latent_dim: 4 ", "latent_dim: *a40 #"))
    with pytest.raises(UserError, match=r"latent_dim must be an integer >= 1 and <= 65536; got \[\[\[\[\.\.\.\], "):
        loader.load(TrainParams)


def test_an_absent_and_a_binary_and_a_huge_file_are_refused(workspace):
    path = workspace() / "params.yaml"
    path.write_bytes(b"seed: \xff\n")
    with pytest.raises(UserError, match="must be UTF-8 text"):
        check.main()
    os.truncate(path, 100_000_000)
    with pytest.raises(UserError, match="must be smaller than 65536 bytes; got 100000000"):
        check.main()
    path.unlink()
    with pytest.raises(UserError, match="run from the top of the checkout"):
        check.main()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"latent_dim": 64}, "latent_dim must be below the 64 numbers of an image for train.variant undercomplete"),
        ({"train": {"variant": "overcomplete"}}, "latent_dim must be at least the 64 numbers of an image"),
        (
            {"latent_dim": 64, "train": {"variant": "overcomplete", "overcomplete": {"regularizer": "none"}}},
            "train.overcomplete.regularizer must be sparsity or corruption",
        ),
        (
            {"train": {"variant": "sparse", "sparse": {"penalty": "top_k", "k": 5}}},
            "train.sparse.k must be at most latent_dim, 4; got 5",
        ),
        (
            {"train": {"variant": "sparse", "sparse": {"penalty": "top_k", "k": 3, "encode_k": 2}}},
            "train.sparse.encode_k must be auto, or from train.sparse.k to latent_dim, 3 to 4; got 2",
        ),
        (
            {"train": {"variant": "sparse", "sparse": {"penalty": "top_k", "k": 3, "encode_k": 5}}},
            "train.sparse.encode_k must be auto, or from train.sparse.k to latent_dim, 3 to 4; got 5",
        ),
        (
            {"train": {"variant": "denoising", "denoising": {"corruption": "masking", "level": 1.5}}},
            "train.denoising.level must be a share of the pixels",
        ),
        ({"train": {"precision": "bf16"}}, "train.precision must be fp32 with numerics portable; got bf16"),
        ({"train": {"anomaly_score": "elbo"}}, "must not be elbo for train.variant undercomplete, whose codes have no"),
        (
            {"train": {"anomaly_score": "density", "variant": "variational"}},
            "must not be density for train.variant variational, whose codes have a prior; choose elbo",
        ),
        ({"train": {"binarize": "static"}}, "train.loss must be bce with train.binarize static"),
        (
            {"train": {"binarize": "static", "loss": "bce"}},
            "train.augment.max_images must be 0 with train.binarize static, because moved pixels are grey; got 10000",
        ),
        (
            {"train": {"variational": {"samples": 5, "beta": 2.0}}},
            "train.variational.beta must be 1 with several samples, for which there is no other bound; got 2.0",
        ),
    ],
)
def test_settings_that_make_no_sense_together_are_refused(workspace, changes, message):
    assert message in refusal(workspace, changes)


def test_a_map_whose_package_is_absent_is_refused(workspace, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert refusal(workspace, {"embed": {"map": "umap"}}).startswith(
        "params.yaml: embed.map umap needs the package umap-learn"
    )


def test_an_absent_device_is_refused_and_nothing_written(workspace):
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has the device")
    folder = workspace({"device": "cuda"})
    for stage in ("check", "train"):
        ended = subprocess.run(
            [sys.executable, "-m", f"stages.{stage}"], cwd=folder, env={"PYTHONPATH": str(ROOT)}, capture_output=True
        )
        assert ended.returncode == 1
        *_, last = ended.stderr.decode().splitlines()
        assert "device" in last or "data/split" in last
        assert b"Traceback" not in ended.stderr
    assert sorted(path.name for path in folder.iterdir()) == ["params.yaml"]


def test_the_committed_file_follows_the_schema(params):
    loader.validate(Params, params, Path("params.yaml"))


def test_the_first_line_names_the_json_schema_file():
    assert (ROOT / "docs/params.schema.json").is_file()
    first = (ROOT / "params.yaml").read_text().splitlines()[0]
    assert first == "# yaml-language-server: $schema=docs/params.schema.json"


def test_every_key_is_described_and_commented():
    described = Params.model_json_schema()
    for definition in [described, *described["$defs"].values()]:
        for name, field in definition["properties"].items():
            assert "description" in field or "$ref" in field, name
    lines = (ROOT / "params.yaml").read_text().splitlines()
    for line in lines:
        key, _, value = line.partition(":")
        if value.strip() and not key.lstrip().startswith("#"):
            assert "#" in value, line


def test_numbers_are_read_as_dvc_reads_them(workspace):
    """YAML 1.2 reads 1e-3 as a number; PyYAML, which is 1.1, reads text. DVC writes and reads 1.2."""
    folder = workspace()
    text = (folder / "params.yaml").read_text().replace("learning_rate: 0.01", "learning_rate: 1e-3")
    (folder / "params.yaml").write_text(text)
    assert pyyaml.safe_load(text)["train"]["learning_rate"] == "1e-3"
    assert loader.load(TrainParams).train.learning_rate == 0.001


def test_a_stage_leaves_other_keys_to_check(workspace):
    workspace({"split": {"zzz": 1}})
    assert loader.load(train.TrainParams).latent_dim == 4


def test_yaml_is_read_by_the_parser_in_c():
    """As DVC reads its files; without ruamel.yaml.clib the same class falls back to Python without a word."""
    assert YAML(typ="safe").Parser.__module__.endswith("_ruamel_yaml")


STAGES = ["check", "download", "split", "baseline", "train", "reconstruct", "embed", "evaluate", "classify", "sample"]


def as_command(*arguments, cwd):
    command = [sys.executable, "-m", f"stages.{arguments[0]}", *arguments[1:]]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("stage", ["check", "train"])
def test_a_stage_refuses_arguments_and_writes_nothing(stage, workspace):
    folder = workspace()
    ended = as_command(stage, "--epochs", "3", cwd=folder)
    assert ended.returncode == 1
    assert ended.stderr.startswith(f"python -m stages.{stage}: must be run without arguments; got '--epochs 3'; set")
    assert ended.stderr.count("\n") == 1
    assert sorted(path.name for path in folder.iterdir()) == ["params.yaml"]


def test_help_names_what_a_stage_reads_and_writes_and_runs_nothing(workspace):
    folder = workspace()
    ended = as_command("train", "--help", cwd=folder)
    assert ended.returncode == 0
    for word in (
        "usage: python -m stages.train",
        "data/split/",
        "data/model.safetensors",
        "latent_dim",
        "plots/loss.csv",
    ):
        assert word in ended.stdout
    assert sorted(path.name for path in folder.iterdir()) == ["params.yaml"]


def test_the_docstring_of_a_stage_names_its_files_and_params():
    stages = YAML(typ="safe").load((ROOT / "dvc.yaml").read_text())["stages"]
    assert list(stages) == STAGES
    for name, entry in stages.items():
        text = ast.get_docstring(ast.parse((ROOT / f"stages/{name}.py").read_text()))
        outputs = [
            out if isinstance(out, str) else next(iter(out))
            for kind in ("outs", "metrics")
            for out in entry.get(kind, [])
        ]
        for path in outputs:
            stem, _, last = path.removesuffix(".safetensors").rpartition("/")
            assert stem in text, (name, path)
            assert last in text, (name, path)
        for key in entry.get("params", []) if name != "check" else ():
            assert key in text, (name, key)
