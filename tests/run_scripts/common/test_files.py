"""Files that are written whole or not at all, full disks, and the permissions of weights."""

import errno
from pathlib import Path
from types import SimpleNamespace

import pytest

from run_scripts.common import files
from run_scripts.common.files import (
    DiskFullError,
    is_disk_full,
    remove_temporary_files,
    report_full_disk,
    write_text,
    written_whole,
)


def test_a_full_disk_is_reported_with_the_file_and_the_room_that_is_missing(tmp_path: Path):
    with pytest.raises(DiskFullError, match="is full: /dev/full could not be written, .* are free. Make room"):
        write_text(Path("/dev/full"), "text", append=True)
    with pytest.raises(
        DiskFullError, match="model.safetensors could not be written.* about .* MB are missing"
    ) as full:
        with report_full_disk(tmp_path / "model.safetensors", 10**15):
            raise RuntimeError("I/O error: No space left on device (os error 28)")
    assert is_disk_full(full.value)
    with pytest.raises(DiskFullError, match="checkpoint could not be written"):
        with report_full_disk(tmp_path / "checkpoint", 10**15):
            raise RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 156544 vs 156432")
    with pytest.raises(PermissionError), report_full_disk(tmp_path, 1):
        raise PermissionError(errno.EACCES, "Permission denied")


@pytest.mark.parametrize("is_folder", [False, True])
def test_what_is_written_is_whole_or_not_there(tmp_path: Path, is_folder: bool):
    path = tmp_path / "written"

    def write(text: str) -> None:
        with written_whole(path) as temporary:
            assert not path.exists() or content() == "earlier"
            if is_folder:
                temporary.mkdir()
            (temporary / "file" if is_folder else temporary).write_text(text)
            if text == "half":
                raise KeyboardInterrupt

    def content() -> str:
        return (path / "file" if is_folder else path).read_text()

    with pytest.raises(KeyboardInterrupt):
        write("half")
    assert not list(tmp_path.iterdir())
    write("earlier")
    with pytest.raises(KeyboardInterrupt):
        write("half")
    assert content() == "earlier"
    write("later")
    assert content() == "later" and list(tmp_path.iterdir()) == [path]


def test_several_processes_write_one_folder(tmp_path: Path):
    path = tmp_path / "folder"
    with written_whole(path, renames=True) as first:
        first.mkdir()
        with written_whole(path, renames=False) as second:
            (second / "file").touch()
        assert not path.exists()
    assert (path / "file").exists() and list(tmp_path.iterdir()) == [path]


def test_the_room_that_is_missing_is_that_of_the_whole_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """What is written already is removed, and its room is free again."""

    def usage(folder: Path) -> SimpleNamespace:
        written = sum(path.stat().st_size for path in tmp_path.iterdir())
        return SimpleNamespace(free=3_000_000 - written)

    monkeypatch.setattr(files.shutil, "disk_usage", usage)
    message = "list could not be written, 3.0 MB are free and about 1.0 MB are missing"
    with pytest.raises(DiskFullError, match=message), written_whole(tmp_path / "list", 4_000_000) as temporary:
        temporary.write_bytes(bytes(2_900_000))
        raise OSError(errno.ENOSPC, "No space left on device", str(temporary))


def test_what_a_kill_left_is_removed(tmp_path: Path):
    for name in (".list.json.17.tmp", "list.json", ".hidden"):
        (tmp_path / name).touch()
    (tmp_path / ".checkpoint-3.tmp").mkdir()
    remove_temporary_files(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".hidden", "list.json"]


def test_text_keeps_names_that_are_not_utf8(tmp_path: Path):
    write_text(tmp_path / "list.tsv", "k\udcffä")
    assert (tmp_path / "list.tsv").read_bytes() == b"k\xff\xc3\xa4"
