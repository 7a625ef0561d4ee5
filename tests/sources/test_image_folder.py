"""A folder of images -> a dataset: layouts, order, what is refused or passed over, processes that decode."""

import json
import logging
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import zlib
from dataclasses import asdict
from pathlib import Path

import numpy as np
import psutil
import pytest
from conftest import ROOT
from PIL import Image

from stages.autoencoder.core.errors import UserError
from stages.autoencoder.params.download import Download
from stages.autoencoder.params.fitting import Fitting
from stages.autoencoder.params.folder_presence import check_folder
from stages.autoencoder.sources.folder import layout, pool
from stages.autoencoder.sources.folder.decoding import decode
from stages.autoencoder.sources.folder.open_folder import open_folder
from stages.autoencoder.sources.folder.worker import Task

GOOD = {"dataset": "folder", "folder": "photos", "size": [8, 8], "fit": "crop", "colour": "rgb"}
GOOD |= {"background": "white", "mirror": None}


@pytest.fixture
def photos(tmp_path, monkeypatch):
    """An empty folder, photos, in the current one."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    return tmp_path / "photos"


def shade(path):
    """A shade of grey for a path."""
    return zlib.crc32(os.fsencode(path)) % 251


def draw(folder, *paths, size=(8, 8)):
    """Make images of one shade each, which the path decides."""
    for path in paths:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        with (folder / path).open("wb") as file:
            Image.new("RGB", size, (shade(path),) * 3).save(file, "PNG")


def read(**changes):
    """The dataset of the folder photos, and its images (N, C, H, W)."""
    dataset = open_folder(Download(**(GOOD | changes)))
    return dataset, np.concatenate(list(dataset.pieces))


def messages(caplog):
    return [record.getMessage() for record in caplog.records]


def refusal(caplog, **changes):
    """The log lines and the error of a folder that is refused."""
    caplog.set_level(logging.INFO)
    with pytest.raises(UserError) as caught:
        read(**changes)
    assert str(caught.value).isprintable()
    assert all(line.isprintable() for line in messages(caplog))
    return messages(caplog), str(caught.value)


# Layouts


def recognised(*paths):
    """{path: (class, part)} of a layout, its class names, and what it says."""
    found = layout.recognise("photos", sorted(paths, key=os.fsencode))
    classes = found.class_names or ("",)
    rows = zip(found.paths, found.labels, found.parts, strict=True)
    return {path: (classes[label], layout.PARTS[part]) for path, label, part in rows}, found


def test_flat_folder_has_no_classes():
    images, found = recognised("b.png", "a.jpg")
    assert images == {"a.jpg": ("", ""), "b.png": ("", "")}
    assert (found.class_names, found.normal_classes, list(found.mask_rows)) == ((), (), [])
    assert found.description == "a flat folder"


def test_each_folder_is_a_class_with_all_that_lies_below_it():
    images, found = recognised("no/x.png", "01/deep/er/y.png", "1/z.png", "null/x.png")
    assert {path: name for path, (name, _) in images.items()} == {
        "no/x.png": "no", "01/deep/er/y.png": "01", "1/z.png": "1", "null/x.png": "null"
    }  # fmt: skip
    assert found.class_names == ("01", "1", "no", "null")


@pytest.mark.parametrize("valid", ["valid", "val", "validation", "Valid"])
@pytest.mark.parametrize("below", ["", "cat/"])
def test_published_parts_are_kept_and_missing_ones_left_to_the_stage_split(valid, below):
    paths = {name: f"{name}/{below}x.png" for name in ("train", valid, "test")}
    for present, parts in (
        (["train", valid, "test"], ["train", "valid", "test"]),
        (["train", "test"], ["", "test"]),
        (["train", valid], ["", "valid"]),
        (["train"], [""]),
    ):
        images, found = recognised(*(paths[name] for name in present))
        expected = dict(zip((paths[name] for name in present), parts, strict=True))
        assert {path: part for path, (_, part) in images.items()} == expected
        assert found.class_names == (("cat",) if below else ())


def test_class_names_are_those_of_all_parts():
    _, found = recognised("train/b/x.png", "train/c/x.png", "test/a/x.png", "test/c/x.png", "valid/d/x.png")
    assert found.class_names == ("a", "b", "c", "d")
    assert found.normal_classes == ()


def test_one_class_in_train_and_others_in_test_are_the_layout_of_mvtec_ad():
    images, found = recognised(
        "train/good/0.png", "train/good/1.png", "test/good/0.png", "test/hole/0.png", "test/hole/1.png",
        "ground_truth/hole/0_mask.png", "ground_truth/hole/1.png",
    )  # fmt: skip
    assert found.normal_classes == ("good",)
    assert found.class_names == ("good", "hole")
    assert "ground_truth/hole/0_mask.png" not in images
    assert dict(zip((found.paths[row] for row in found.mask_rows), found.mask_paths, strict=True)) == {
        "test/hole/0.png": "ground_truth/hole/0_mask.png", "test/hole/1.png": "ground_truth/hole/1.png"
    }  # fmt: skip
    assert list(found.mask_rows) == sorted(found.mask_rows)


def test_classes_may_be_called_like_parts():
    assert recognised("car/x.png", "test/x.png")[1].class_names == ("car", "test")
    assert recognised("car/x.png", "train/x.png")[1].class_names == ("car", "train")


@pytest.mark.parametrize(
    ("paths", "message"),
    [
        (["a.png", "cats/b.png"], r"either images or folders of images.*got both a\.png and cats/b\.png; move"),
        (["train/a.png", "test/cats/b.png"], r"got both train/a\.png and test/cats/b\.png"),
        (["train/a.png", "test/b.png", "c.png"], r"nothing beside its parts test/, train/; got c\.png; move it"),
        (["train/a.png", "test/b.png", "more/c.png"], r"nothing beside its parts test/, train/; got more/; move it"),
        (["test/b.png", "valid/b.png"], r"must have train/.*; got test/, valid/; rename"),
        (["train/a.png", "val/a.png", "valid/b.png"], r"at most one folder for valid.*got train/, val/, valid/"),
        (["train/a/x.png", "test/b/x.png", "ground_truth/b/y_mask.png"], r"b/y_mask\.png, with no image; rename"),
        (["train/a/x.png", "test/b/x.png", "test/b/x.jpg", "ground_truth/b/x.png"], "with several images; rename"),
        (["train/a/x.png", "test/b/x.png", "ground_truth/b/x.png", "ground_truth/b/x_mask.png"], "with another mask"),
        (["a\nb/x.png", "c/x.png"], r"a class, must be printable text; got a\\nb; rename"),
        (["a\udcff/x.png", "c/x.png"], r"a class, must be printable text; got a\\xff; rename"),
    ],
)  # fmt: skip
def test_folders_that_fit_no_layout_are_refused_with_a_next_step(paths, message):
    with pytest.raises(UserError, match=rf"^photos: .*{message}"):
        recognised(*paths)


def test_log_says_which_layout_was_recognised(photos, caplog):
    caplog.set_level(logging.INFO)
    draw(photos, "train/good/0.png", "train/good/1.png", "test/good/0.png", "test/hole/0.png")
    draw(photos, "ground_truth/hole/0_mask.png")
    dataset, _ = read()
    assert messages(caplog) == [
        "photos: 2 in train/, 2 in test/, MVTec AD's layout, normal class good; 4 images, 2 classes, 1 masks"
    ]
    assert (list(dataset.masks.rows), dataset.names[1]) == ([1], "test/hole/0.png")
    (masks,) = dataset.masks.pieces
    assert masks.shape == (1, 8, 8)
    assert masks.min() == 1  # a mask of one shade above 0


# Order and bytes

AWKWARD = ["a.png", "a/b.png", "a-b.png", "B.png", "z.png", "é.png", "e\u0301.png", "日本.png", "10.png", "9.png"]


def write_in_order(folder, names, seed):
    """The same files, made in another order and with other times."""
    folder.mkdir()
    names = list(names)
    random.Random(seed).shuffle(names)  # noqa: S311
    for name in names:
        draw(folder, f"{name}")
        os.utime(folder / name, (seed * 10**6 + len(name), seed * 10**6))


def test_order_is_that_of_the_bytes_of_the_paths(photos):
    draw(photos, *(f"all/{name}" for name in AWKWARD if name != "a/b.png"), "all/a/b.png")
    dataset, images = read()
    assert list(dataset.names) == sorted((f"all/{name}" for name in AWKWARD), key=lambda name: name.encode())
    assert images[:, 0, 0, 0].tolist() == [shade(name) for name in dataset.names]


def test_bytes_depend_neither_on_the_order_of_creation_nor_on_the_cores(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = [f"{name}{i}.png" for i in range(5) for name in "abcé日 "]
    results = []
    for folder, seed, cores in (("one", 1, 1), ("two", 2, 3)):
        write_in_order(tmp_path / folder, names, seed)
        monkeypatch.setattr(pool, "count_cores", lambda cores=cores: cores)
        monkeypatch.setattr(pool, "MAX_CHUNK", 2 + seed)
        dataset, images = read(folder=folder)
        results.append((dataset.names, dataset.labels.tobytes(), dataset.parts.tobytes(), images.tobytes()))
    assert results[0] == results[1]
    assert len(results[0][3]) == 30 * 3 * 8 * 8


def test_names_of_any_kind_are_kept_and_name_no_output(photos):
    names = ["a b.png", 'it\'s "q".png', "line\nbreak.png", "\u202eodd.png", "x" * 246 + ".png", "$(touch pwned).png"]
    draw(photos, *names)
    undecodable = os.fsdecode(b"\xff\xfe.png")
    draw(photos, undecodable)
    dataset, images = read()
    assert set(dataset.names) == {*names, "\\xff\\xfe.png"}
    assert len(images) == 7
    assert sorted(path.name for path in Path().iterdir()) == ["photos"]


def test_fitting_brings_any_image_to_the_shape_of_the_dataset(photos):
    draw(photos, "a.png", size=(20, 10))
    dataset, images = read(size=[6, 9], fit="pad", colour="grey", background="black")
    assert json.loads(json.dumps(asdict(dataset.fitting))) == {
        "size": [6, 9], "fit": "pad", "colour": "grey", "background": "black", "exact": False
    }  # fmt: skip
    assert dataset.shape == (1, 6, 9)
    assert np.array_equal(decode((photos / "a.png").read_bytes(), dataset.fitting), images[0])


def test_without_a_size_the_images_give_theirs(photos, caplog):
    draw(photos, *(f"{i}.png" for i in range(3)), size=(5, 7))
    dataset, images = read(size=None)
    assert dataset.shape == images.shape[1:] == (3, 7, 5)
    assert (dataset.fitting.size, dataset.fitting.exact) == ((7, 5), True)
    draw(photos, "4.png", size=(7, 5))
    lines, error = refusal(caplog, size=None)
    assert "photos/4.png: has 7 x 5 pixels (width x height); it must have 5 x 7" in lines
    assert error == (
        "photos: every image must be readable; 1 of 4 are not, listed above; repair or remove them, or set"
        " download.size if they only differ in size, then run again"
    )


def test_without_a_size_the_images_must_suit_a_model(photos, caplog):
    draw(photos, "a.png", size=(4097, 3))
    _, error = refusal(caplog, size=None)
    assert error == (
        "photos/a.png: must have at most 4096 pixels a side where download.size is null; got 4097 x 3; set"
        " download.size, [height, width]"
    )


# What is passed over, what is refused


def test_what_is_no_image_is_passed_over_and_counted(photos, caplog, monkeypatch):
    caplog.set_level(logging.INFO)
    draw(photos, "a.png", "B.PNG", ".hidden.png", "._a.png", ".git/x.png")
    for name in ("notes.txt", "Thumbs.db", "README"):
        (photos / name).write_text("x")
    (photos / "empty.png/deeper").mkdir(parents=True)
    os.mkfifo(photos / "pipe.png")
    monkeypatch.chdir(photos)  # a socket's path must be short
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket.png")
    monkeypatch.chdir(photos.parent)
    dataset, _ = read()
    assert list(dataset.names) == ["B.PNG", "a.png"]
    assert messages(caplog)[0] == (
        "photos: passed over folders without images: 1, hidden: 3, other files: 3, pipes and devices: 2"
    )


def write_sparse_bomb(path):
    """A whole, valid PNG of 30,000 x 30,000 pixels in 110 kB."""
    packer = zlib.compressobj(9)
    rows = b"".join([packer.compress(bytes(3751)) for _ in range(30_000)] + [packer.flush()])
    chunks = [(b"IHDR", bytes.fromhex("0000753000007530 0100000000")), (b"IDAT", rows), (b"IEND", b"")]
    content = b"\x89PNG\r\n\x1a\n"
    for kind, body in chunks:
        content += len(body).to_bytes(4, "big") + kind + body + zlib.crc32(kind + body).to_bytes(4, "big")
    path.write_bytes(content)


MEASURED = """
import json, logging, os, sys, time
sys.path.insert(0, sys.argv[1])
from stages.autoencoder.core.errors import UserError
from stages.autoencoder.params.fitting import Fitting
from stages.autoencoder.params.download import Download
from stages.autoencoder.sources.folder import pool
from stages.autoencoder.sources.folder.open_folder import open_folder
from tests.support import decode_here
pool.run = decode_here.run  # that user may not start this Python everywhere
logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
if os.geteuid() == 0:
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
start = time.process_time()
try:
    for piece in open_folder(Download(**json.loads(sys.argv[2]))).pieces:
        pass
except UserError as error:
    print("error:", error)
with open("/proc/self/status") as file:  # not getrusage, whose peak is that of the parent if that is higher
    peak = next(int(line.split()[1]) for line in file if line.startswith("VmHWM"))
print(json.dumps({"seconds": time.process_time() - start, "MiB": peak / 1024}))
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc")
def test_hostile_folder_gets_one_clear_report_in_bounded_time_and_memory():
    """As another user than root, who may read everything."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        folder = Path(name) / "photos"
        draw(
            folder,
            "good.png",
            "cut.png",
            "secret.png",
            "a b.png",
            "it's.png",
            "line\nbreak.png",
            "日本.png",
            "x" * 246 + ".png",
        )
        (folder / "cut.png").write_bytes((folder / "cut.png").read_bytes()[:45])
        (folder / "text.png").write_text("renamed\n" * 1000)
        (folder / "zero.jpg").touch()
        (folder / "x.png").mkdir()
        (folder / "loop").symlink_to("..")
        (folder / "gone.png").symlink_to("nowhere.png")
        (folder / "round.png").symlink_to("round.png")
        (folder / "elsewhere").symlink_to("/usr")
        (folder / "secret.png").chmod(0)
        (folder / "secret").mkdir()
        (folder / "secret").chmod(0)
        write_sparse_bomb(folder / "huge.png")
        command = [sys.executable, "-c", MEASURED, ROOT, json.dumps(GOOD | {"folder": str(folder)})]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        (folder / "secret").chmod(0o755)
    *lines, error, usage = done.stdout.replace(f"{folder}/", "").replace(str(folder), "photos").splitlines()
    assert done.stderr == ""
    assert lines == [
        "photos: passed over folders without images: 1",
        "photos: a flat folder; 11 images, no classes",
        "cut.png: is broken or truncated: image file is truncated",
        "elsewhere: is a link to a folder, which DVC does not look into; put the folder itself there",
        "gone.png: is a link that leads nowhere: No such file or directory",
        "huge.png: has 900,000,000 pixels; at most 100,000,000 are read",
        "loop: is a link to a folder that it lies in; remove it",
        "round.png: is a link that leads nowhere: Too many levels of symbolic links",
        "secret.png: cannot be read: Permission denied",
        "secret/: cannot be listed: Permission denied",
        "text.png: is no PNG, JPEG, WEBP, TIFF, BMP or GIF that Pillow can read",
        "zero.jpg: is empty",
    ]
    assert error == (
        "error: photos: every image must be readable; 10 of 16 are not, listed above; repair or remove them, then run"
        " again"
    )
    assert json.loads(usage)["seconds"] < 2
    assert json.loads(usage)["MiB"] < 150


def test_report_names_the_first_twenty_and_counts_all(photos, caplog):
    draw(photos, "z.png")
    for i in range(50):
        (photos / f"{i:02d}.png").write_text("text")
    (photos / "005.png").symlink_to("nowhere")
    lines, error = refusal(caplog)
    listed = [line.partition(":")[0] for line in lines if "is no PNG" in line or "leads nowhere" in line]
    assert listed == sorted(["photos/005.png", *(f"photos/{i:02d}.png" for i in range(19))])
    assert error.startswith("photos: every image must be readable; 51 of 52 are not, the first 20 are listed above; ")


def test_nothing_is_given_after_a_refusal(photos, monkeypatch, caplog):
    """Else a caller could take what it got for the whole."""
    monkeypatch.setattr(pool, "MAX_CHUNK", 1)
    draw(photos, "a.png", "c.png", "d.png")
    (photos / "b.png").write_text("text")
    pieces = []
    with pytest.raises(UserError, match="1 of 4 are not"):
        pieces.extend(open_folder(Download(**GOOD)).pieces)
    assert len(pieces) == 1


def test_control_characters_of_names_do_not_reach_the_terminal(photos, caplog):
    (photos / "\x1b[31m\n\r.png").write_text("text")
    (photos / os.fsdecode(b"\xff.png")).write_text("text")
    lines, _ = refusal(caplog)
    assert [line.partition(": ")[0] for line in lines[1:]] == ["photos/\\x1b[31m\\n\\r.png", "photos/\\xff.png"]


# Absent and empty folders


def test_absent_folder_is_refused_with_the_absolute_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    for folder in ("absent", "file", str(tmp_path / "absent")):
        with pytest.raises(UserError) as caught:
            check_folder(folder)
        assert str(caught.value).startswith(
            f"params.yaml: download.folder must be a folder that exists; got {tmp_path / folder}: "
        )
    check_folder(".")


def test_folder_without_images_is_refused_with_a_next_step(photos, caplog):
    (photos / "README.md").write_text("Put your images here.")
    _, error = refusal(caplog)
    assert re.fullmatch(
        r"photos: must hold images \(\.bmp, .*\.webp\); got other files: 1; put your images there, or set"
        r" download\.folder to their folder", error,
    )  # fmt: skip


@pytest.mark.parametrize("present", [False, True])
def test_queued_experiment_without_the_images_is_told_the_absolute_path(present, tmp_path, monkeypatch, caplog):
    """DVC runs a queued experiment in a copy of what git and DVC track."""
    copy = tmp_path / ".dvc/tmp/exps/tmp1x2y"
    (copy / "photos" if present else copy).mkdir(parents=True)
    monkeypatch.chdir(copy)
    _, error = refusal(caplog)
    assert error.endswith(
        "a queued experiment's copy has only the files that git or DVC tracks: run dvc add on the folder and commit, or"
        f" set download.folder={tmp_path / 'photos'}"
    )


def test_presence_of_the_folder_is_checked_without_heavy_packages():
    code = "import sys; from stages.autoencoder.params import folder_presence; print({'numpy', 'PIL'} & {*sys.modules})"
    assert subprocess.check_output([sys.executable, "-c", code], cwd=ROOT, text=True) == "set()\n"


# Processes


def test_processes_import_no_heavy_package():
    code = (
        "import sys; from stages.autoencoder.sources.folder import worker;"
        " print({'torch', 'pandas', 'pydantic', 'scipy', 'sklearn'} & {*sys.modules})"
    )
    assert subprocess.check_output([sys.executable, "-c", code], cwd=ROOT, text=True) == "set()\n"


@pytest.mark.parametrize("killed", ["before the jobs", "within the jobs", "before the answer"])
def test_a_process_whose_parent_was_killed_says_nothing(killed, photos):
    draw(photos, "a.png", size=(8, 8))
    task = json.dumps([str(photos), asdict(Fitting((8, 8), "crop", "rgb", "white", exact=False)), 60]) + "\n"
    said = {
        "before the jobs": task[:-9],
        "within the jobs": task + '[["a.p',
        "before the answer": task + '[["a.png"]]\n',
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "stages.autoencoder.sources.folder.worker"],
        cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    process.stdout.close()
    process.stdin.write(said[killed])
    process.stdin.close()
    assert process.stderr.read() == ""
    process.stderr.close()
    process.wait()


@pytest.fixture
def two_processes(monkeypatch):
    """Two processes, to which one image is sent at a time."""
    monkeypatch.setattr(pool, "count_cores", lambda: 2)
    monkeypatch.setattr(pool, "MAX_CHUNK", 1)


def draw_many(photos, count, side=300):
    draw(photos, "000.png", size=(side, side))
    for i in range(1, count):
        os.link(photos / "000.png", photos / f"{i:03d}.png")


def test_images_are_asked_for_only_as_they_are_taken(photos, two_processes):
    draw_many(photos, 100)
    asked = []
    jobs = ((path.name,) for path in sorted(photos.iterdir()) if not asked.append(path))
    task = Task("photos", Fitting((8, 8), "crop", "rgb", "white", exact=False))
    for taken, _ in enumerate(pool.run(jobs, 100, task, (3, 8, 8)), start=1):
        assert len(asked) <= taken + 4
    assert taken == 100


def test_processes_end_with_the_work_and_when_it_is_given_up(photos, two_processes):
    draw_many(photos, 20)
    assert len(read()[1]) == 20
    assert psutil.Process().children() == []
    pieces = open_folder(Download(**GOOD)).pieces
    next(pieces)
    assert len(psutil.Process().children()) == 2
    pieces.close()
    assert psutil.Process().children() == []


def test_process_that_is_killed_is_one_error_that_names_an_image(photos, two_processes):
    draw_many(photos, 100)
    pieces = open_folder(Download(**GOOD)).pieces
    next(pieces)
    for child in psutil.Process().children():
        child.kill()
    with pytest.raises(UserError, match=r"^photos/00\d\.png: the process that decoded it ended by signal 9, for"):
        list(pieces)
    assert psutil.Process().children() == []


def test_image_that_takes_too_long_is_named(photos, monkeypatch):
    """Some few kilobytes, such as a JPEG of thousands of passes, take hours."""
    monkeypatch.setattr(Task.__new__, "__defaults__", (False, 0.05))
    draw(photos, "a.png", size=(8, 8))
    draw(photos, "b.png", size=(5000, 5000))
    with pytest.raises(
        UserError, match=r"^photos/b\.png: must take at most 0\.05 s of CPU time to decode; remove it, "
    ):
        list(open_folder(Download(**GOOD)).pieces)


DECODING = """
import json, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job is started to ignore it
sys.path.insert(0, sys.argv[1])
import psutil
from stages.autoencoder.params.fitting import Fitting
from stages.autoencoder.params.download import Download
from stages.autoencoder.sources.folder import pool
from stages.autoencoder.sources.folder.open_folder import open_folder
from stages.runtime.command import run_main
pool.count_cores = lambda: 2
def main():
    for piece in open_folder(Download(**json.loads(sys.argv[2]))).pieces:
        print(*(child.pid for child in psutil.Process().children()), flush=True)
run_main(main)
"""


@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGINT])
def test_processes_end_when_their_parent_is_killed_or_interrupted(photos, ending):
    draw_many(photos, 999, side=1000)
    command = [sys.executable, "-c", DECODING, ROOT, json.dumps(GOOD)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    children = [int(number) for number in process.stdout.readline().split()]
    assert len(children) == 2
    process.send_signal(ending)
    _, stderr = process.communicate(timeout=10)
    if ending == signal.SIGINT:
        assert stderr.splitlines()[-1] == "interrupted; run again to go on"
        assert "Traceback" not in stderr
    deadline = time.monotonic() + 5
    while any(map(is_running, children)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(is_running, children))


def is_running(number):
    try:
        return psutil.Process(number).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_progress_bar_counts_the_images_on_a_terminal(photos, monkeypatch, capsys):
    draw(photos, "a.png", "b.png")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    read()
    assert "2/2" in capsys.readouterr().err


def test_folder_can_be_moved(photos):
    """Names are relative to the folder, whatever it is called."""
    draw(photos, "cats/a.png")
    before = read()
    shutil.move("photos", "elsewhere")
    after = read(folder=str(Path("elsewhere").resolve()))
    assert list(before[0].names) == list(after[0].names) == ["cats/a.png"]
    assert np.array_equal(before[1], after[1])
