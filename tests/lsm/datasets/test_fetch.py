import hashlib
import os
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from lsm.datasets.fetch import CHUNK, ChecksumError, DownloadError, RemoteFile, digest_of, fetch

CONTENT = bytes(range(256)) * 4000
DIGEST = f"md5:{hashlib.md5(CONTENT).hexdigest()}"
DEAD = "http://127.0.0.1:9/file.gz"


class Server(ThreadingHTTPServer):
    """Serves CONTENT in the ways that the path names; `log` keeps (path, Range header) of each request."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.log = []
        self.cuts_left = 1

    def url(self, path):
        return f"http://127.0.0.1:{self.server_port}/{path}"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        way = self.path.strip("/")
        asked = self.headers.get("Range")
        self.server.log.append((way, asked))
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and way != "cut-no-ranges" else 0
        body = {"wrong": b"not the file", "short": CONTENT[:-1000]}.get(way, CONTENT)
        if way == "missing":
            return self.send_error(404)
        if start >= len(body):
            return self.send_error(416)
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(body) - start))
        self.end_headers()
        if way.startswith("cut") and self.server.cuts_left:
            self.server.cuts_left -= 1
            body = body[: start + (len(body) - start) * 3 // 5]
        self.wfile.write(body[start:])
        return None

    def log_message(self, *args):
        """Keep the test output quiet."""


@pytest.fixture
def server():
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def remote(*urls, digest=DIGEST):
    return RemoteFile("file.gz", digest, urls)


def visible(folder):
    return sorted(p.name for p in folder.iterdir() if not p.name.startswith("."))


def test_a_download_arrives_whole_and_reports_its_progress(server, tmp_path, capfd):
    seen = []
    path = fetch(remote(server.url("good")), tmp_path / "new", lambda done, total: seen.append((done, total)))
    assert path.read_bytes() == CONTENT
    assert visible(tmp_path / "new") == ["file.gz"]
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert capfd.readouterr() == ("", "")
    assert [done for done, _ in seen if done] == sorted(done for done, _ in seen if done)


def test_a_file_that_is_there_is_not_downloaded_again(server, tmp_path):
    (tmp_path / "file.gz").write_bytes(CONTENT)
    assert fetch(remote(server.url("good")), tmp_path).read_bytes() == CONTENT
    assert server.log == []


def test_a_file_that_its_server_packs_anew_is_left_to_the_caller_to_check(server, tmp_path):
    assert fetch(remote(server.url("good"), digest=None), tmp_path).read_bytes() == CONTENT
    (tmp_path / "file.gz").write_bytes(b"another pack")
    assert fetch(remote(DEAD, digest=None), tmp_path).read_bytes() == b"another pack"


def test_a_wrong_file_of_the_user_is_named_and_left_alone(server, tmp_path):
    mine = tmp_path / "file.gz"
    mine.write_bytes(b"mine")
    with pytest.raises(ChecksumError) as caught:
        fetch(remote(server.url("good")), tmp_path)
    for part in (str(mine), DIGEST, digest_of(b"mine", "md5")):
        assert part in str(caught.value)
    assert mine.read_bytes() == b"mine"
    assert server.log == []


@pytest.mark.parametrize("first", ["dead", "wrong", "short", "missing"])
def test_the_next_mirror_is_tried_when_one_fails(server, tmp_path, first):
    url = DEAD if first == "dead" else server.url(first)
    assert fetch(remote(url, server.url("good")), tmp_path).read_bytes() == CONTENT
    assert visible(tmp_path) == ["file.gz"]


@pytest.mark.parametrize("way", ["wrong", "short", "missing"])
def test_a_bad_delivery_leaves_no_file_that_could_pass_as_good(server, tmp_path, way):
    with pytest.raises(DownloadError, match=r"file\.gz"):
        fetch(remote(server.url(way)), tmp_path)
    assert visible(tmp_path) == []


def test_a_connection_cut_midway_is_resumed_where_it_broke_off(server, tmp_path):
    assert fetch(remote(server.url("cut")), tmp_path).read_bytes() == CONTENT
    (_, first), (_, second) = server.log
    assert first is None
    resumed_at = int(second.removeprefix("bytes=").rstrip("-"))
    assert len(CONTENT) * 3 // 5 - CHUNK < resumed_at <= len(CONTENT) * 3 // 5
    assert visible(tmp_path) == ["file.gz"]


def test_a_download_restarts_where_the_server_cannot_resume(server, tmp_path):
    assert fetch(remote(server.url("cut-no-ranges")), tmp_path).read_bytes() == CONTENT


def test_what_an_earlier_process_left_is_continued_by_the_next(server, tmp_path):
    (tmp_path / "file.gz.part").write_bytes(CONTENT[:1234])
    assert fetch(remote(server.url("good")), tmp_path).read_bytes() == CONTENT
    assert server.log == [("good", "bytes=1234-")]


@pytest.mark.parametrize("rest", [b"something else", CONTENT + b"too long"])
def test_a_leftover_of_another_file_costs_one_restart_only(server, tmp_path, rest):
    (tmp_path / "file.gz.part").write_bytes(rest)
    assert fetch(remote(server.url("good")), tmp_path).read_bytes() == CONTENT
    assert len(server.log) == 2


def test_offline_the_error_names_the_file_the_mirrors_and_the_folder(tmp_path):
    with pytest.raises(DownloadError) as caught:
        fetch(remote(DEAD, "http://localhost:9/file.gz"), tmp_path)
    message = str(caught.value)
    assert "\n" not in message
    for part in ("file.gz", "127.0.0.1:9: ConnectionError", "localhost:9", str(tmp_path), DIGEST):
        assert part in message
    assert visible(tmp_path) == []


def test_a_folder_that_cannot_be_made_is_reported_before_any_download(server, tmp_path):
    (tmp_path / "taken").write_text("a file, not a folder")
    with pytest.raises(PermissionError, match=r"taken.*file\.gz cannot be downloaded"):
        fetch(remote(server.url("good")), tmp_path / "taken")
    assert server.log == []


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write everywhere")
def test_a_read_only_folder_is_reported_before_any_download(server, tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(PermissionError, match="no write permission"):
        fetch(remote(server.url("good")), tmp_path)
    assert server.log == []


def test_two_that_need_the_same_file_download_it_once(server, tmp_path):
    threads = [threading.Thread(target=fetch, args=(remote(server.url("good")), tmp_path)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (tmp_path / "file.gz").read_bytes() == CONTENT
    assert len(server.log) == 1
