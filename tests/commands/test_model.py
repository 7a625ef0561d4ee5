"""tools.model: each verb against the pipeline's own files or Pillow; what is refused leaves nothing behind."""

import csv
import inspect
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from functools import partial
from http.server import HTTPServer, SimpleHTTPRequestHandler
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from PIL import Image
from pyarrow import parquet

from stages.autoencoder.core import arrays
from stages.autoencoder.core.errors import UserError
from stages.autoencoder.sources.folder import pool
from stages.autoencoder.use import TrainedModel, load_model
from tests.support import model_files, stage_folders
from tools import model as command
from tools.models import inputs, tables


@pytest.fixture
def folder(workspace):
    place = workspace({"embed": {"map": "none"}})
    stage_folders.make(place, names=False, normal=(0,))
    return place


def save_photos(*names):
    """Save the first test images under these names below photos/. Returns them, (n, 1, 8, 8)."""
    images = stage_folders.read_images()[: len(names)]
    for name, image in zip(names, images, strict=True):
        path = Path("photos", name)
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[0]).save(path)
    return images


@pytest.fixture
def photos(folder):
    """Five images of the model's size, in the order in which they are read: a/0.png, b/1.png, ..."""
    return save_photos(*(f"{letter}/{number}.png" for number, letter in enumerate("abcde")))


@pytest.fixture
def run(monkeypatch):
    """A function that runs `python -m tools.model` with these arguments, without the pins."""

    def run_command(*arguments):
        monkeypatch.setattr(sys, "argv", ["model", *map(str, arguments), "--fast", "--device", "cpu"])
        command.main()

    return run_command


def read_table(path):
    with Path(path).open(newline="") as file:
        return list(csv.DictReader(file))


def test_codes_of_a_part_are_those_of_embed_to_the_last_bit(folder, run):
    stage_folders.run("embed")
    expected = arrays.load(Path("data/embeddings.safetensors"))[0]["test"]
    run("encode", "test", "--out", "codes.csv")
    run("encode", "test", "--out", "codes.npy")
    run("encode", "test", "--out", "codes.parquet")
    rows = read_table("codes.csv")
    found = np.array([[np.float32(row[f"z{d}"]) for d in range(3)] for row in rows])
    np.testing.assert_array_equal(found, expected)
    index = arrays.load(Path("data/split/test.safetensors"))[0]["index"]
    assert [row["path"] for row in rows] == [f"test/{row}" for row in index]
    with Path("codes.npy").open("rb") as file:
        np.testing.assert_array_equal(np.lib.format.read_array(file), expected)
    table = parquet.read_table("codes.parquet")
    assert table.column_names == list(rows[0])
    assert table["path"].to_pylist() == [row["path"] for row in rows]
    for number in range(3):
        assert table[f"z{number}"].type == "float"  # 32 bits
        np.testing.assert_array_equal(table[f"z{number}"].to_numpy(), expected[:, number])


def test_many_rows_make_few_groups_of_a_parquet_file(folder, run, monkeypatch):
    monkeypatch.setattr(inputs, "piece_length", lambda *_: 7)
    run("score", "test", "--out", "one.parquet")
    monkeypatch.setattr(tables, "GROUP_BYTES", 300)
    run("score", "test", "--out", "few.parquet")
    one, few = (parquet.ParquetFile(f"{name}.parquet") for name in ("one", "few"))
    assert one.num_row_groups == 1 < few.num_row_groups < one.metadata.num_rows / 7
    assert one.read().equals(few.read())


def test_scores_and_decisions_are_those_of_evaluate(folder, run):
    stage_folders.run()
    run("score", "test", "--out", "scores.csv")
    rows = read_table("scores.csv")
    metrics = stage_folders.metrics()
    assert np.mean([float(row["mse"]) for row in rows]) == metrics["mse"]
    evaluated = read_table("data/test_images.csv")
    found, expected = ([float(row["score"]) for row in table] for table in (rows, evaluated))
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert [row["above_threshold"] for row in rows] == [row["above_threshold"] for row in evaluated]
    called = np.array([row["above_threshold"] == "True" for row in rows])
    anomalous = np.array([row["anomalous"] == "True" for row in evaluated])
    assert (called & anomalous).sum() / max(1, called.sum()) == metrics["precision"]
    assert (called & anomalous).sum() / anomalous.sum() == metrics["recall"]


def test_reconstructions_are_those_of_the_pipeline_in_8_bit(folder, run):
    stage_folders.run("reconstruct")
    run("reconstruct", "test", "--out", "out", "--grid", "grid.png")
    output = arrays.load(Path("data/reconstructions.safetensors"))[0]["output"]
    index = arrays.load(Path("data/split/test.safetensors"))[0]["index"]
    for row, expected in zip(index, output, strict=True):
        np.testing.assert_array_equal(np.asarray(Image.open(f"out/test/{row}.png")), np.rint(expected[0] * 255))
    with Image.open("grid.png") as grid:
        assert grid.size[0] > 400


def test_files_folders_and_globs_keep_their_order(photos, run):
    run("encode", "photos/e/4.png", "photos", "photos/[ab]/*.png", "--out", "codes.csv")
    paths = [row["path"] for row in read_table("codes.csv")]
    inside = [f"photos/{'abcde'[number]}/{number}.png" for number in range(5)]
    assert paths == ["photos/e/4.png", *inside, *inside[:2]]
    run("encode", "test", "--out", "test.csv")
    by_file = [list(row.values())[1:] for row in read_table("codes.csv")[1:6]]
    np.testing.assert_allclose(
        np.array(by_file, float), np.array([list(row.values())[1:] for row in read_table("test.csv")[:5]], float), 1e-4
    )


def test_a_broken_image_is_reported_and_the_others_are_done(photos, run, caplog):
    Path("photos/b/1.png").write_bytes(b"no image")
    message = "^every image must be readable; 1 of 5 are not, see above; the others are done$"
    with pytest.raises(UserError, match=message):
        run("encode", "photos", "--out", "codes.csv")
    assert "photos/b/1.png: is no PNG, JPEG" in caplog.text
    assert len(read_table("codes.csv")) == 4
    with pytest.raises(UserError, match=message):
        run("encode", "photos", "--out", "codes.npy")
    with Path("codes.npy").open("rb") as file:
        codes = np.lib.format.read_array(file)
    assert np.isnan(codes).all(1).tolist() == [False, True, False, False, False]
    with pytest.raises(UserError, match=message):
        run("encode", "photos", "--out", "codes.parquet")
    assert parquet.read_table("codes.parquet").num_rows == 4
    with pytest.raises(UserError, match=message):
        run("reconstruct", "photos", "--out", "out")
    assert sorted(str(path) for path in Path("out").rglob("*.png")) == [
        f"out/{p}.png" for p in ("a/0", "c/2", "d/3", "e/4")
    ]


def test_a_link_that_leads_nowhere_counts_as_broken(photos, run, caplog):
    Path("photos/lost.png").symlink_to("nowhere")
    with pytest.raises(UserError, match="1 of 6 are not, see above"):
        run("encode", "photos", "--out", "codes.csv")
    assert "photos/lost.png: is a link that leads nowhere" in caplog.text
    assert len(read_table("codes.csv")) == 5


def test_a_bar_shows_the_progress_on_a_terminal(folder, run, monkeypatch, capsys):
    run("encode", "test", "--out", "silent.csv")
    assert "image" not in capsys.readouterr().err
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    run("encode", "test", "--out", "codes.csv")
    assert "40/40" in capsys.readouterr().err
    run("decode", "codes.csv", "--out", "out")
    assert "40/40" in capsys.readouterr().err


def test_defaults_on_the_command_line_are_those_of_python(monkeypatch):
    for verb, arguments, names in (
        ("generate", ["--count", "1"], ("seed", "spread")),
        ("interpolate", ["a.png", "b.png"], ("steps",)),
    ):
        monkeypatch.setattr(sys, "argv", ["model", verb, *arguments])
        options = command._parse_options()
        defaults = inspect.signature(getattr(TrainedModel, verb)).parameters
        assert {name: getattr(options, name) for name in names} == {name: defaults[name].default for name in names}


def test_the_leftover_of_a_killed_command_goes_with_the_next(photos, run):
    ended = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], stdout=subprocess.PIPE, check=True)
    leftover = Path(f".out.{int(ended.stdout)}.part")
    leftover.mkdir()
    (leftover / "half.png").touch()
    mine = Path(f".out.{os.getpid()}0.part.kept")
    mine.mkdir()
    run("reconstruct", "photos", "--out", "out")
    assert [path.name for path in Path().glob(".out*")] == [mine.name]


def test_an_image_that_ends_its_decoder_costs_itself_alone(photos, run, caplog, monkeypatch):
    real = pool.run

    def crash(jobs, *rest, unit):
        for chunk, results in real(jobs, *rest, unit=unit):
            if ("photos/c/2.png",) in chunk:
                raise pool.WorkerEndedError(("photos/c/2.png",), -9)
            yield chunk, results

    monkeypatch.setattr(inputs.pool, "run", crash)
    with pytest.raises(UserError, match="1 of 5 are not"):
        run("encode", "photos", "--out", "codes.csv")
    assert "photos/c/2.png: the process that decoded it ended by signal 9" in caplog.text
    assert [row["path"][-5] for row in read_table("codes.csv")] == ["0", "1", "3", "4"]


def test_batches_are_those_of_the_stages_whatever_the_chunks(folder, run, monkeypatch):
    monkeypatch.setattr(inputs, "piece_length", lambda *_: 7)
    part = inputs.find_images(["test", "valid" if Path("data/split/valid.safetensors").exists() else "test"],
                              model_files.describe(stage_folders.make(folder)).fitting)  # fmt: skip
    sizes = [len(batch.names) for batch in part.batches()]
    assert sizes == [7] * (part.count // 7) + [part.count % 7] * (part.count % 7 > 0)


def test_images_with_one_name_get_two(photos, run):
    Image.open("photos/a/0.png").save("photos/a/0.bmp")
    run("reconstruct", "photos/a", "--out", "out")
    assert sorted(path.name for path in Path("out").iterdir()) == ["0.bmp.png", "0.png.png"]
    with pytest.raises(UserError, match=r"^0\.bmp\.png: must be the picture of one image"):
        run("reconstruct", "photos/a", "photos/a", "--out", "out2")
    assert not Path("out2").exists()


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_decoded_codes_are_the_reconstructions(ending, photos, run):
    run("encode", "photos", "--out", f"codes.{ending}")
    run("decode", f"codes.{ending}", "--out", "decoded")
    run("reconstruct", "photos", "--out", "direct")
    for number in range(5):
        name = f"{'abcde'[number]}/{number}.png"
        a, b = (np.asarray(Image.open(place)).astype(int) for place in (f"decoded/photos/{name}", f"direct/{name}"))
        assert abs(a - b).max() <= 1


def test_a_table_from_a_stranger_writes_no_file_outside_the_folder(folder, run):
    Path("codes.csv").write_text(
        "path,z0,z1,z2\n../../escaped.png,0,0,0\n/tmp/absolute.png,1,1,1\n..,2,2,2\na/\0,0,1,0\n"
    )
    run("decode", "codes.csv", "--out", "deep/out")
    assert sorted(path.relative_to("deep/out").as_posix() for path in Path("deep/out").rglob("*.png")) == [
        "a.png", "escaped.png", "image.png", "tmp/absolute.png"
    ]  # fmt: skip
    assert not Path("escaped.png").exists()


BAD_CODES = {
    "two.csv": "path,z0,z1\na,0,0\n", "text.csv": "z0,z1,z2\na,b,c\n", "nan.csv": "z0,z1,z2\n0,nan,0\n",
    "none.csv": "z0,z1,z2\n", "empty.csv": "", "wrong.npy": "x", "wrong.parquet": "PAR1PAR1",
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_CODES)
def test_tables_without_codes_of_the_model_are_refused(name, folder, run):
    Path(name).write_text(BAD_CODES[name])
    with pytest.raises(UserError, match=rf"^{name}: must ") as refused:
        run("decode", name, "--out", "out")
    assert ("it has no column z2" in str(refused.value)) == (name == "two.csv")
    assert not Path("out").exists()


def test_generated_images_follow_seed_and_count(folder, run):
    run("generate", "--count", 3, "--seed", 1, "--out", "a", "--grid", "grid.png")
    run("generate", "--count", 3, "--seed", 1, "--out", "b")
    run("generate", "--count", 3, "--seed", 2, "--out", "c")
    read = {name: [path.read_bytes() for path in sorted(Path(name).iterdir())] for name in "abc"}
    assert len(read["a"]) == 3
    assert read["a"] == read["b"] != read["c"]


def test_lines_and_neighbours_of_images(photos, run):
    run("reconstruct", "photos", "--out", "direct")
    run("interpolate", "photos/a/0.png", "photos/b/1.png", "--steps", 4, "--out", "line")
    run("generate", "--near", "photos/a/0.png", "--spread", 0, "--count", 2, "--out", "near")
    pictures = {path: np.asarray(Image.open(path)).astype(int) for path in Path().rglob("*.png")}
    start, end = pictures[Path("direct/a/0.png")], pictures[Path("direct/b/1.png")]
    for path, expected in (
        ("line/000000", start),
        ("line/000003", end),
        ("near/000000", start),
        ("near/000001", start),
    ):
        assert abs(pictures[Path(f"{path}.png")] - expected).max() <= 1


def test_info_tells_what_the_file_holds(folder, run, capsys):
    run("info")
    text = capsys.readouterr().out
    assert "score             mse\nthreshold         0.1\n" in text
    assert "latent_dim        3\n" in text
    run("info", "--json")
    found = json.loads(capsys.readouterr().out)
    assert found["spec"]["shape"] == [1, 8, 8]
    assert found["sampled_from"] == "a mixture of 2 Gaussians"


def test_an_exported_model_is_checked_on_the_images_that_are_named(folder, run, capsys):
    run("export", "m.onnx", "--check", "test")
    assert "on 40 images" in capsys.readouterr().out
    assert sorted(path.name for path in Path().glob("*.onnx")) == ["m.decoder.onnx", "m.encoder.onnx", "m.onnx"]
    with pytest.raises(UserError, match=r"^m\.onnx: must not exist"):
        run("export", "m.onnx")


def test_only_a_denoising_model_denoises(photos, run):
    with pytest.raises(UserError, match=r"^the model must be trained to denoise"):
        run("denoise", "photos", "--out", "out")
    assert not Path("out").exists()


MISTAKES = {
    ("encode", "nothing.png"): r"nothing\.png: must be an image, a folder, a glob or one of train, valid, test",
    ("encode", "*.tif"): r"\*\.tif: must match files; it matches none",
    ("encode", "empty"): "empty: must hold images; got none",
    ("encode", "test", "--out", "codes.xls"): r"codes\.xls: must end in \.csv, \.parquet or \.npy",
    ("encode", "test", "--out", "there.csv"): r"there\.csv: must not exist; choose another name",
    ("encode", "test", "--model", "none"): "none: not found",
    ("encode", "test", "--model", "there.csv"): r"there\.csv: must be a whole safetensors file",
    ("encode", "test", "--rev", "none"): "--rev none: must be an experiment, tag or commit",
    ("reconstruct", "test"): "--out FOLDER or --grid FILE.png must be given",
    ("reconstruct", "test", "--out", "full"): "full: must not exist, or be an empty folder",
    ("reconstruct", "test", "--grid", "a.jpg"): r"a\.jpg: must end in \.png",
    ("generate", "--count", "0", "--out", "out"): "count must be at least 1",
    ("generate", "--spread", "2", "--out", "out"): "count must be at least 1 and spread in",
    ("interpolate", "wide.png", "wide.png", "--out", "out"): r"wide\.png: has 9 x 8 pixels .* it must have 8 x 8",
    ("export", "model.pt"): r"model\.pt: must end in \.onnx or \.pt2",
    ("interpolate", "one.png", "--out", "out"): "steps and the number of images must be at least 2; got 12 and 1",
    ("decode", "none.csv", "--out", "out"): r"none\.csv: not found",
    ("paint",): "python -m tools.model: argument VERB: invalid choice: 'paint'",
}


@pytest.mark.parametrize("arguments", MISTAKES, ids=" ".join)
def test_a_mistake_is_one_line_and_leaves_nothing(arguments, folder, run):
    Path("empty").mkdir()
    Path("full").mkdir()
    Path("full/file").touch()
    Path("there.csv").write_text("mine")
    Image.new("L", (9, 8)).save("wide.png")
    Image.new("L", (8, 8)).save("one.png")
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
    with pytest.raises(UserError, match=f"^{MISTAKES[arguments]}") as refused:
        run(*arguments)
    assert "\n" not in str(refused.value)
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()} == before


def test_other_sizes_are_taken_with_fit(folder, run):
    Image.new("L", (9, 8)).save("wide.png")
    with pytest.raises(UserError, match="1 of 1 are not"):
        run("encode", "wide.png", "--out", "a.csv")
    run("encode", "wide.png", "--fit", "pad", "--out", "b.csv")
    assert len(read_table("b.csv")) == 1


def test_a_table_that_fails_leaves_no_file(folder, run, monkeypatch):
    monkeypatch.setattr(tables._Csv, "append", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="No space left"):
        run("encode", "test", "--out", "codes.csv")
    assert not [path for path in folder.iterdir() if "codes" in path.name]


def test_a_folder_of_pictures_that_fails_leaves_none_and_names_the_picture(photos, run, monkeypatch):
    real = Image.Image.save

    def save(image, path, *rest):
        if Path(path).name == "2.png":
            raise OSError(28, "No space left on device")
        real(image, path, *rest)

    monkeypatch.setattr(Image.Image, "save", save)
    with pytest.raises(OSError, match=r"No space left on device: 'c/2\.png'"):
        run("reconstruct", "photos", "--out", "out")
    assert not [path for path in Path().iterdir() if "out" in path.name]


def test_it_pins_numerics_first_and_takes_a_closed_pipe(folder):
    stage_folders.run("embed")
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    shell = f"{sys.executable} -W error -m tools.model encode test | head -2"
    ended = subprocess.run(["bash", "-c", shell], env=environment, capture_output=True, text=True, check=True)
    assert ended.stderr in ("", "device: auto takes cpu\n")
    first = ended.stdout.splitlines()[1].split(",")
    expected = arrays.load(Path("data/embeddings.safetensors"))[0]["test"][0]
    np.testing.assert_allclose(np.array(first[1:], np.float32), expected, rtol=1e-5)


PAGE = (ROOT / "docs/use.md").read_text()
COMMANDS = re.findall(r"python -m tools\.model ([^`#\n]+)", PAGE + (ROOT / "README.md").read_text())


@pytest.mark.parametrize("line", sorted({line.strip() for line in COMMANDS if "VERB" not in line}))
def test_commands_of_the_page_run_as_typed(line, folder, run):
    """In a folder with photos/0.png to 2.png; denoise with a denoising model."""
    save_photos("0.png", "1.png", "2.png")
    if line.startswith("decode"):
        run("encode", "photos", "--out", "codes.csv")
    if line.startswith("denoise"):
        model_files.save(Path("data/model.safetensors"), stage_folders.make(folder), "gaussian", variant="denoising")
    run(*shlex.split(line))
    target = re.search(r"(?:--out|--grid|export) (\S+)", line)
    assert target is None or Path(target[1]).exists()


def test_python_of_the_page_runs(folder, run, capsys):
    save_photos("0.png", "1.png", "2.png")
    run("export", "model.onnx")
    search, service, onnx = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    for block in (search, onnx):
        exec(block, {})  # noqa: S102
    assert "['photos/1.png', 'photos/" in capsys.readouterr().out
    names = {"__name__": "service"}
    exec(service, names)  # noqa: S102
    images = stage_folders.read_images()
    with HTTPServer(("127.0.0.1", 0), names["Score"]) as server:
        server.RequestHandlerClass.log_message = lambda *_: None
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        with urllib.request.urlopen(address, Path("photos/1.png").read_bytes()) as response:
            answer = json.load(response)
        with pytest.raises(urllib.error.HTTPError, match="400") as refused:
            urllib.request.urlopen(address, b"no image")
        assert json.load(refused.value)["refused"].startswith("image 0: is no PNG")
        refused.value.close()
        server.shutdown()
    score = names["model"].score(images[1:2])[0]
    assert answer == {"score": score, "anomaly": bool(score > model_files.THRESHOLD)}


def test_the_browser_runs_an_exported_model_as_the_page_says(folder, run):
    if not (chromium := shutil.which("chromium")):
        pytest.skip("no Chromium: apt-get install chromium")
    if not (package := os.environ.get("ONNXRUNTIME_WEB")):
        pytest.skip("npm install onnxruntime-web, then set ONNXRUNTIME_WEB=node_modules/onnxruntime-web")
    run("export", "model.onnx")
    (block,) = re.findall(r"```html\n(.*?)```", PAGE, re.DOTALL)
    site = Path("site")
    shutil.copytree(Path(ROOT, package, "dist"), site, ignore=shutil.ignore_patterns("*.map"))
    shutil.copy("model.encoder.onnx", site)
    (site / "index.html").write_text(block.replace("28", "8"))
    with HTTPServer(("127.0.0.1", 0), partial(SimpleHTTPRequestHandler, directory=site)) as server:
        server.RequestHandlerClass.func.log_message = lambda *_: None
        threading.Thread(target=server.serve_forever, daemon=True).start()
        command = [chromium, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder / 'profile'}"]
        command += ["--virtual-time-budget=20000", "--dump-dom", f"http://127.0.0.1:{server.server_port}"]
        page = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        server.shutdown()
    found = np.array(re.search(r"<body>(.*?)</body>", page, re.DOTALL)[1].split(), np.float32).reshape(3, 3)
    expected = load_model("data/model.safetensors", "cpu").encode(np.full((3, 1, 8, 8), 99, np.uint8))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
