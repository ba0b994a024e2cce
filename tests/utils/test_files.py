"""Downloads into a cache, from a server on this machine, and archives that try to escape."""

import functools
import hashlib
import http.server
import io
import tarfile
import threading
import zipfile

import pytest

from fnn.utils import get_file

CONTENT = b"some bytes" * 1000
SHA256 = hashlib.sha256(CONTENT).hexdigest()
MD5 = hashlib.md5(CONTENT).hexdigest()


class Handler(http.server.SimpleHTTPRequestHandler):
    requests = []

    def do_GET(self):
        self.requests.append(self.path)
        if self.path == "/short":  # fewer bytes than it says
            self.send_response(200)
            self.send_header("Content-Length", "100")
            self.end_headers()
            self.wfile.write(b"only this")
        elif self.path == "/elsewhere":
            self.send_response(302)
            self.send_header("Location", "http://example.org/data.bin")
            self.end_headers()
        else:
            super().do_GET()

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """(a folder, its address)."""
    folder = tmp_path_factory.mktemp("served")
    (folder / "data.bin").write_bytes(CONTENT)
    handler = functools.partial(Handler, directory=folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield folder, f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture
def get(served, tmp_path):
    """`get_file` of a name on the server, into a cache of its own."""

    def get(name, **arguments):
        path = get_file(origin=f"{served[1]}/{name}", cache_dir=tmp_path, **arguments)
        assert str(path).startswith(str(tmp_path))
        return path

    Handler.requests.clear()
    return get


@pytest.mark.parametrize("file_hash", [None, SHA256, MD5])
def test_a_file_is_downloaded_once(get, tmp_path, file_hash, capsys):
    for _ in range(2):
        path = get("data.bin", file_hash=file_hash)
    assert path == str(tmp_path / "datasets" / "data.bin")
    with open(path, "rb") as file:
        assert file.read() == CONTENT
    assert Handler.requests == ["/data.bin"]
    assert "Downloading data from http://127" in capsys.readouterr().out
    get("data.bin", force_download=True, fname="other.bin", cache_subdir="sub")
    assert (tmp_path / "sub" / "other.bin").read_bytes() == CONTENT
    assert len(Handler.requests) == 2


def test_a_damaged_file_in_the_cache_is_downloaded_again(get, tmp_path):
    path = get("data.bin")
    with open(path, "wb") as file:
        file.write(b"damaged")
    get("data.bin")  # nothing tells that it is damaged
    assert len(Handler.requests) == 1
    get("data.bin", file_hash=SHA256)
    with open(path, "rb") as file:
        assert file.read() == CONTENT


@pytest.mark.parametrize(
    ("name", "arguments", "error", "message"),
    [
        ("data.bin", {"file_hash": "0" * 64}, ValueError, "sha256 0{64}, received " + SHA256),
        ("data.bin", {"md5_hash": "0" * 32}, ValueError, "md5 0{32}, received " + MD5),
        ("short", {}, ValueError, "expected 100 bytes of http.*/short, received 9"),
        ("missing", {}, OSError, r"missing cannot be read: .*404"),
        ("elsewhere", {}, ValueError, r"begins with https://, received 'http://example\.org"),
        ("data.bin", {"extract": True}, ValueError, "expected an archive of the format 'auto'"),
        ("data.bin", {"hash_algorithm": "crc"}, ValueError, 'hash_algorithm as "auto"'),
    ],
)
def test_what_is_wrong_is_not_kept(get, tmp_path, name, arguments, error, message):
    with pytest.raises(error, match=message):
        get(name, **arguments)
    kept = [path.name for path in tmp_path.rglob("*") if path.is_file()]
    assert kept == (["data.bin_archive"] if "extract" in arguments else [])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "expected origin, the address of the file, received None"),
        ({"origin": "http://example.org/a.zip"}, "begins with https://, .*localhost alone"),
        ({"origin": "ftp://example.org/a.zip"}, "begins with https://"),
        ({"origin": "http://localhost.example.org/a.zip"}, "begins with https://"),
        ({"origin": "https://example.org/"}, "fname to be the name of a file"),
        ({"origin": "https://example.org/.."}, "fname to be the name of a file"),
        ({"origin": "https://example.org/a", "fname": "../a"}, "without a folder, received '../a'"),
    ],
)
def test_addresses_and_names_are_checked(arguments, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        get_file(cache_dir=tmp_path, **arguments)


def test_the_cache_is_where_the_environment_says(served, tmp_path, monkeypatch):
    monkeypatch.setenv("FNN_CACHE", str(tmp_path / "cache"))
    path = get_file(origin=f"file://{served[0]}/data.bin")
    assert path == str(tmp_path / "cache" / "datasets" / "data.bin")


def add(archive, name, content=b"text", **attributes):
    """Adds a member to a tar archive."""
    member = tarfile.TarInfo(name)
    member.size = len(content)
    for attribute, value in attributes.items():
        setattr(member, attribute, value)
    archive.addfile(member, io.BytesIO(content))


def tar(path, *members):
    with tarfile.open(path, "w:gz") as archive:
        for member in members:
            add(archive, **member)


@pytest.mark.parametrize(
    ("fname", "folder"),
    [(None, "flowers.tgz"), ("flowers.tgz", "flowers_extracted"), ("flowers", "flowers")],
)
def test_an_archive_is_unpacked_where_keras_does(get, served, tmp_path, fname, folder):
    tar(
        served[0] / "flowers.tgz",
        {"name": "roses/1.txt", "content": b"red"},
        {"name": "roses/link", "content": b"", "type": tarfile.SYMTYPE, "linkname": "1.txt"},
    )
    for _ in range(2):
        path = get("flowers.tgz", extract=True, fname=fname)
    assert path == str(tmp_path / "datasets" / folder)
    assert (tmp_path / "datasets" / folder / "roses" / "link").read_text() == "red"
    assert len(Handler.requests) == 1


def test_a_zip_is_unpacked_and_replaced_as_a_whole(get, served, tmp_path):
    for text in ("one", "two"):
        with zipfile.ZipFile(served[0] / "notes.zip", "w") as archive:
            archive.writestr(f"inside/{text}.txt", text)
        folder = get("notes.zip", extract=True, force_download=True)
    assert [path.name for path in (tmp_path / "datasets" / "notes.zip" / "inside").iterdir()] == [
        "two.txt"
    ]
    assert folder.endswith("notes.zip")


OUTSIDE = {
    "parent": [{"name": "../evil.txt"}],
    "root": [{"name": "/evil.txt"}],
    "link": [{"name": "a", "content": b"", "type": tarfile.SYMTYPE, "linkname": "../../evil"}],
    "hard link": [{"name": "a", "content": b"", "type": tarfile.LNKTYPE, "linkname": "../evil"}],
    "through a link": [
        {"name": "a", "content": b"", "type": tarfile.SYMTYPE, "linkname": "."},
        {"name": "a/../../evil.txt"},
    ],
}


@pytest.mark.parametrize("case", OUTSIDE)
def test_a_tar_that_leaves_its_folder_is_refused(case, get, served, tmp_path):
    tar(served[0] / "evil.tgz", {"name": "good.txt"}, *OUTSIDE[case])
    with pytest.raises(
        ValueError, match=r"members stay in its folder, received .*would lie outside"
    ):
        get("evil.tgz", extract=True)
    assert [path.name for path in (tmp_path / "datasets").iterdir()] == ["evil.tgz_archive"]
    assert not list(tmp_path.parent.glob("*evil*"))


def test_a_device_in_a_tar_is_refused(get, served):
    tar(served[0] / "device.tgz", {"name": "pipe", "content": b"", "type": tarfile.FIFOTYPE})
    with pytest.raises(ValueError, match="received 'pipe', a device or pipe"):
        get("device.tgz", untar=True)


@pytest.mark.parametrize("name", ["../evil.txt", "/evil.txt", "a/../../evil.txt"])
def test_a_zip_that_leaves_its_folder_is_refused(name, get, served, tmp_path):
    with zipfile.ZipFile(served[0] / "evil.zip", "w") as archive:
        archive.writestr("good.txt", "good")
        archive.writestr(name, "evil")
    with pytest.raises(ValueError, match="would lie outside"):
        get("evil.zip", extract=True)
    assert [path.name for path in (tmp_path / "datasets").iterdir()] == ["evil.zip_archive"]
