"""Files are written whole or not at all: in which order, on full disks, killed at any call."""

import os
import re
import resource
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from fnn.runtime.files import write_atomically

ROOT = Path(__file__).parents[2]


def write(path, data):
    write_atomically(path, lambda file: file.write(data))


def test_a_file_is_durable_before_it_has_its_name_and_then_its_name_is(tmp_path, monkeypatch):
    calls = []
    fsync, replace = os.fsync, os.replace

    def synced(descriptor):
        is_folder = os.path.isdir(f"/proc/self/fd/{descriptor}")
        calls.append("sync of the folder" if is_folder else "sync of the file")
        fsync(descriptor)

    def renamed(old, new):
        calls.append(f"rename within {os.path.dirname(old) == os.path.dirname(new)}")
        replace(old, new)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", renamed)
    write(tmp_path / "a", b"new")
    assert calls == ["sync of the file", "rename within True", "sync of the folder"]


def test_a_full_disk_keeps_the_old_file_and_is_named(tmp_path):
    path = tmp_path / "a"
    write(path, b"old")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**16, before[1]))
    try:
        with pytest.raises(OSError, match=f"File too large: {str(path)!r}"):
            write(path, bytes(2**20))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("a", b"old")]


@pytest.mark.parametrize("call", ["fsync", "replace", "chmod"])
def test_an_error_of_the_disk_at_any_call_keeps_the_old_file(call, tmp_path, monkeypatch):
    path = tmp_path / "a"
    write(path, b"old")

    def broken(*arguments):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, call, broken)
    with pytest.raises(OSError, match=r"Input/output error.*/a"):
        write(path, b"new")
    monkeypatch.undo()
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("a", b"old")]


@pytest.mark.parametrize("name", ["a b", "é 漢字", "n" * 255, ".hidden", "a.tmp"])
def test_names(name, tmp_path):
    write(tmp_path / name, b"new")
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [(name, b"new")]


def test_a_name_that_is_too_long_leaves_nothing(tmp_path):
    with pytest.raises(OSError, match="too long"):
        write(tmp_path / ("n" * 256), b"new")
    assert not list(tmp_path.iterdir())


def test_the_file_behind_a_link_is_replaced_and_the_link_stays(tmp_path):
    (tmp_path / "far").mkdir()
    link, far = tmp_path / "link", tmp_path / "far" / "file"
    link.symlink_to(far)
    for data in (b"first", b"second"):  # nothing is there before the first
        write(link, data)
        assert link.is_symlink()
        assert far.read_bytes() == data
    assert len(list((tmp_path / "far").iterdir())) == 1


@pytest.mark.slow
def test_a_reader_sees_whole_files_while_two_threads_write(tmp_path):
    path = tmp_path / "a"
    write(path, b"0" * 5000)
    found, done = set(), threading.Event()

    def writing(digit):
        for _ in range(15):
            write(path, digit * 5000)

    def reading():
        while not done.is_set():
            found.add(path.read_bytes())

    reader = threading.Thread(target=reading)
    writers = [threading.Thread(target=writing, args=(digit,)) for digit in (b"1", b"2")]
    for thread in (reader, *writers):
        thread.start()
    for thread in writers:
        thread.join()
    done.set()
    reader.join()
    assert found <= {digit * 5000 for digit in (b"0", b"1", b"2")}
    assert len(list(tmp_path.iterdir())) == 1


# Without imports, which take most of the time, and most of the system calls.
WRITING = """
import sys
from fnn.runtime.files import write_atomically
write_atomically(sys.argv[1], lambda file: [file.write(b"n" * 5000) for _ in range(4)])
print("saved", flush=True)
"""
CALLS = "openat,write,fsync,rename,chmod,unlink,close,flock,fstat,newfstatat"


def traced(path, *inject):
    """The system calls of a process that writes a file, and what it printed."""
    trace = ["strace", "-qq", "-e", f"trace={CALLS}", *inject]
    command = [*trace, sys.executable, "-c", WRITING, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    return [line for line in done.stderr.splitlines() if re.match(r"\w+\(", line)], done.stdout


def places_to_kill(path):
    """(name, number) of each system call from the first temporary file on; calls have numbers."""
    traced(path)  # which leaves what Python has compiled
    names, first = [], None
    for line in traced(path)[0]:
        names.append(line.partition("(")[0])
        if first is None and ".tmp" in line:
            first = len(names) - 1
    return [(name, names[: n + 1].count(name)) for n, name in enumerate(names) if n >= first]


traces = pytest.mark.skipif(not shutil.which("strace"), reason="needs strace")


@traces
@pytest.mark.thorough
def test_a_process_killed_at_any_system_call_leaves_a_whole_file(tmp_path):
    path, found = tmp_path / "a", []
    for name, number in places_to_kill(path):
        path.write_bytes(b"old")
        _, printed = traced(path, "-e", f"inject={name}:signal=SIGKILL:when={number}")
        data = path.read_bytes()
        assert data in (b"old", b"n" * 20_000)
        # What was said to be saved is.
        assert data != b"old" or "saved" not in printed
        found.append(data)
    assert 5 < found.count(b"old") < len(found)
    write(tmp_path / "other", b"x")  # which removes what killed processes have left
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "other"]
