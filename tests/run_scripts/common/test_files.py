"""Full disks, and the permissions of weights."""

import errno
import json
from pathlib import Path

import pytest

from run_scripts.common.files import DiskFullError, is_disk_full, report_full_disk, share_weights, write_text


def test_a_full_disk_is_reported_with_the_file_and_the_room_that_is_missing(tmp_path: Path):
    with pytest.raises(DiskFullError, match="is full: /dev/full could not be written, .* are free. Make room"):
        write_text(Path("/dev/full"), "text")
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


def test_text_keeps_names_that_are_not_utf8(tmp_path: Path):
    write_text(tmp_path / "list.tsv", "k\udcffä")
    assert (tmp_path / "list.tsv").read_bytes() == b"k\xff\xc3\xa4"


def test_weights_get_the_permissions_of_their_neighbours(tmp_path: Path):
    for name, mode in (("config.json", 0o664), ("model.safetensors", 0o600)):
        (tmp_path / name).write_text(json.dumps({}))
        (tmp_path / name).chmod(mode)
    share_weights(tmp_path)
    assert (tmp_path / "model.safetensors").stat().st_mode & 0o777 == 0o664
