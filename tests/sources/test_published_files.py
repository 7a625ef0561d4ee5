"""Fetching published files: addresses, checks, and what is left when something goes wrong."""

import http.server
import os
import socket
import threading
import tracemalloc
from pathlib import Path

import pytest

from stages.autoencoder.core.errors import UserError
from stages.autoencoder.sources.published import published_files
from stages.autoencoder.sources.published.published_files import PublishedFile, fetch
from tests.support.published import kept, md5

CONTENT = bytes(range(256)) * 20
NAME = "images.bin"


def published(*addresses: str, content: bytes = CONTENT, max_bytes: int = 10**6) -> PublishedFile:
    return PublishedFile(NAME, md5(content), tuple(f"{address}/{NAME}" for address in addresses), max_bytes)


@pytest.fixture
def downloads(tmp_path):
    return tmp_path / "downloads" / "set"


@pytest.fixture
def mirror(tmp_path):
    """A folder that has the file."""
    return make_mirror(tmp_path / "mirror", CONTENT)


def make_mirror(folder: Path, content: bytes) -> Path:
    folder.mkdir()
    (folder / NAME).write_bytes(content)
    return folder


@pytest.fixture
def serve(monkeypatch):
    """A function that serves a folder over http on 127.0.0.1 and returns its address."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    servers = []

    def serve(folder: Path, claim: int = 0) -> str:
        """claim: bytes that Content-Length promises beyond those that come."""

        class Handler(http.server.SimpleHTTPRequestHandler):
            def __init__(self, *args):
                super().__init__(*args, directory=str(folder))

            def send_header(self, key, value):
                super().send_header(key, str(int(value) + claim) if key == "Content-Length" else value)

            def log_message(self, *args):
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        servers.append((server, thread))
        return f"http://127.0.0.1:{server.server_port}"

    yield serve
    for server, thread in servers:
        server.shutdown()
        server.server_close()
        thread.join()


def refusal(file: PublishedFile, downloads: Path, mirror: object = None) -> str:
    """The one line with which the file is refused."""
    with pytest.raises(UserError) as caught:
        fetch(file, downloads, None if mirror is None else str(mirror))
    line = str(caught.value)
    assert "\n" not in line
    return line


def assert_fetched(file: PublishedFile, downloads: Path, mirror: str | None = None) -> None:
    path = fetch(file, downloads, mirror)
    assert path == downloads / NAME
    assert path.read_bytes() == CONTENT
    assert kept(downloads) == {NAME}


@pytest.mark.parametrize("form", ["{}", "{}/", "relative", "./relative/", "file://{}", "file://{}/"])
def test_a_mirror_may_be_a_folder_or_a_file_address(form, mirror, downloads, tmp_path, monkeypatch):
    (tmp_path / "relative").symlink_to(mirror)
    monkeypatch.chdir(tmp_path)
    assert_fetched(published(), downloads, form.format(mirror))


@pytest.mark.parametrize("end", ["", "/"])
def test_a_mirror_may_be_an_http_address(end, mirror, downloads, serve):
    assert_fetched(published(), downloads, serve(mirror) + end)


def test_a_file_address_with_an_encoded_blank_is_read(mirror, downloads, tmp_path):
    (tmp_path / "a b").symlink_to(mirror)
    assert_fetched(published(), downloads, (tmp_path / "a b").as_uri())


@pytest.mark.parametrize("mirror", ["ftp://host/x", "s3://bucket", "file://../mnist", "http://", "http://[x"])
def test_an_invalid_mirror_is_refused_before_anything_is_tried(mirror, downloads):
    assert refusal(published(), downloads, mirror).startswith("params.yaml: download.mirror must be ")
    assert kept(downloads) == set()


def test_a_kept_file_is_used_without_any_address(mirror, downloads):
    fetch(published(), downloads, str(mirror))
    assert_fetched(published(), downloads)


def test_a_damaged_kept_file_is_refused_by_its_path(mirror, downloads):
    fetch(published(), downloads, str(mirror))
    (downloads / NAME).write_bytes(CONTENT[:-1] + b"x")
    line = refusal(published(), downloads, mirror)
    got = md5(CONTENT[:-1] + b"x")
    assert line.startswith(
        f"{downloads}/{NAME}: MD5 differs from the published one (expected {md5(CONTENT)}, got {got}"
    )
    assert line.endswith("delete it and run download again")


def test_a_pipe_in_the_place_of_a_kept_file_is_refused_and_not_waited_for(downloads):
    downloads.mkdir(parents=True)
    os.mkfifo(downloads / NAME)
    assert refusal(published(), downloads).startswith(f"{downloads}/{NAME}: must be a file")


def test_a_cut_file_on_the_mirror_is_refused_though_the_publisher_has_it_whole(mirror, downloads, tmp_path):
    cut = make_mirror(tmp_path / "cut", CONTENT[:-3])
    line = refusal(published(mirror.as_uri()), downloads, cut)
    assert line.startswith(f"set/{NAME} from {cut}: MD5 differs")
    assert f"got {md5(CONTENT[:-3])} of {len(CONTENT) - 3} bytes" in line
    assert kept(downloads) == set()


def test_a_file_that_the_mirror_lacks_comes_from_its_publisher(mirror, downloads, tmp_path):
    (tmp_path / "empty").mkdir()
    assert_fetched(published(mirror.as_uri()), downloads, str(tmp_path / "empty"))


def test_a_damaged_file_at_one_address_is_passed_over(mirror, downloads, tmp_path):
    bad = make_mirror(tmp_path / "bad", b"<html>log in</html>")
    assert_fetched(published(bad.as_uri(), mirror.as_uri()), downloads)


def test_a_file_that_no_address_has_is_refused_with_all_reasons(downloads, serve, tmp_path):
    (tmp_path / "empty").mkdir()
    own = (serve(tmp_path / "empty"), "file:///nowhere")
    line = refusal(published(*own), downloads, tmp_path / "none")
    assert line.startswith(f"set/{NAME}: ")
    assert f"{tmp_path}/none/{NAME} (no such file)" in line
    assert f"{own[0]}/{NAME} (HTTP 404 File not found)" in line
    assert f"{own[1]}/{NAME} (no such file)" in line
    assert "set download.mirror" in line
    assert not downloads.exists()


def test_a_connection_that_closes_early_is_named_with_its_bytes(mirror, downloads, serve):
    size = len(CONTENT)
    line = refusal(published(), downloads, serve(mirror, claim=5))
    assert f"(connection closed after {size} of {size + 5} bytes)" in line
    assert kept(downloads) == set()


def test_a_silent_server_is_left_after_the_timeout(downloads, monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(published_files, "TIMEOUT", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert "(timed out)" in refusal(published(), downloads, f"http://127.0.0.1:{server.getsockname()[1]}/")


def test_a_server_that_falls_silent_midway_is_left_too(downloads, monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(published_files, "TIMEOUT", 0.2)
    monkeypatch.setattr(published_files, "CHUNK", 100)

    def answer(server: socket.socket) -> None:
        connection, _ = server.accept()
        connection.recv(10_000)
        connection.sendall(b"HTTP/1.0 200 OK\r\nContent-Length: 5120\r\n\r\n" + CONTENT[:1000])
        ended.wait(10)
        connection.close()

    ended = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=answer, args=[server])
        thread.start()
        assert "(timed out)" in refusal(published(), downloads, f"http://127.0.0.1:{server.getsockname()[1]}/")
        ended.set()
        thread.join()
    assert kept(downloads) == set()


def test_a_server_that_is_not_there_is_named(downloads, monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    assert "(Connection refused)" in refusal(published(), downloads, f"http://127.0.0.1:{port}")


def test_a_pipe_on_the_mirror_is_no_file_and_is_not_waited_for(downloads, tmp_path):
    os.mkfifo(tmp_path / NAME)
    assert "(no such file)" in refusal(published(), downloads, tmp_path)


def test_a_file_without_end_is_refused_at_its_limit(mirror, downloads):
    line = refusal(published(max_bytes=len(CONTENT) - 1), downloads, mirror)
    assert f"larger than the published file (more than {len(CONTENT) - 1} bytes)" in line
    assert kept(downloads) == set()
    assert_fetched(published(max_bytes=len(CONTENT)), downloads, str(mirror))
    line = refusal(published(max_bytes=len(CONTENT) - 1), downloads)
    assert line.startswith(f"{downloads}/{NAME}: larger than the published file")


def test_memory_does_not_grow_with_the_file(tmp_path, downloads, serve):
    content = bytes(40 * 2**20)
    mirror = make_mirror(tmp_path / "large", content)
    file = published(content=content, max_bytes=len(content))
    address = serve(mirror)
    tracemalloc.start()
    try:
        fetch(file, downloads, address)
        fetch(file, downloads, None)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (downloads / NAME).stat().st_size == len(content)
    assert peak < 8 * 2**20


def test_a_full_disk_leaves_no_partial_download(mirror, downloads, monkeypatch):
    def full(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        fetch(published(), downloads, str(mirror))
    assert kept(downloads) == set()
