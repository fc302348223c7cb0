"""Pre-training, embedding and preparation use the same clips of a damaged shard, and count the same as lost."""

import io
import math
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from datasets import Audio, DatasetDict
from torch.utils.data import DataLoader

from feature_extraction import (
    BadClipError,
    SegmentPairs,
    collate_segment_pairs,
    load_audio,
    load_audio_dataset,
)
from helpers import audio_dataset, encode, numbered_clip, write_tar
from run_scripts import prepare_audio
from run_scripts.embedding.source import Source


NUM_CLIPS = 20
CLIPS = {f"{i:02}.wav": encode(numbered_clip(i), subtype="PCM_24") for i in range(NUM_CLIPS)}
ROOM = 512 + 512 * math.ceil(len(CLIPS["00.wav"]) / 512)  # of a clip in a tar file


def overwrite(data: bytes, start: int, count: int) -> bytes:
    return data[:start] + b"\xff" * count + data[start + count :]


def parquet(damage: str) -> bytes:
    """Four row groups of five clips, the second of which is damaged."""
    file = io.BytesIO()
    table = audio_dataset([{"bytes": data, "path": name} for name, data in CLIPS.items()]).data.table
    pq.write_table(table, file, row_group_size=5, compression="none", use_dictionary=False)
    column = pq.read_metadata(file).row_group(1).column(0)
    # Arrow finds the first two clips of the group by their lengths, where the damage begins with that of the third.
    start = column.data_page_offset + (column.total_compressed_size * 2 // 5 if damage == "a page" else 0)
    return overwrite(file.getvalue(), start, 500)


def tar(folder: Path, damage: str) -> bytes:
    write_tar(folder / "whole.tar", CLIPS)
    data = (folder / "whole.tar").read_bytes()
    (folder / "whole.tar").unlink()
    if damage == "its 14th clip":
        return data[: 13 * ROOM + 1000]
    return overwrite(data, 13 * ROOM, 512)


DAMAGES = {
    ("parquet", "a row group"): ({*range(5, 10)}, 5),
    ("parquet", "a page"): ({*range(7, 10)}, 3),
    ("tar", "its 14th clip"): ({*range(13, 20)}, 1),  # nobody knows how many there were
    ("tar", "a member"): ({13}, 1),
}


@pytest.fixture(params=DAMAGES, ids=" ".join)
def damaged(request, tmp_path: Path) -> tuple[Path, list[int], int]:
    """The folder of a data set, the numbers of the clips that can be read, and how many are lost."""
    kind, damage = request.param
    folder = tmp_path / "data"
    folder.mkdir()
    data = parquet(damage) if kind == "parquet" else tar(folder, damage)
    (folder / f"train.{kind}").write_bytes(data)
    lost, num_lost = DAMAGES[request.param]
    return folder, [i for i in range(NUM_CLIPS) if i not in lost], num_lost


def number(samples) -> int:
    return int(100 * float(samples[0]))


def read_splits(folder: Path, streaming: bool) -> DatasetDict:
    return load_audio_dataset(str(folder), streaming=streaming)


both = pytest.mark.parametrize("streaming", [True, False], ids=["stream", "rows"])


@both
def test_pretraining(damaged, streaming):
    folder, good, num_lost = damaged
    pairs = SegmentPairs(read_splits(folder, streaming)["train"], 400, shuffle=False)
    batches = iter(DataLoader(pairs, batch_size=1, collate_fn=collate_segment_pairs))
    batches = [next(batches) for _ in range(len(good) + 1)]  # the first of the next epoch has the notes of the end
    assert [number(batch["waveforms"][0]) for batch in batches] == [*good, good[0]]
    (note,) = (note for batch in batches for note in batch["notes"])
    assert (note.kind, note.num_clips) == ("corrupt shard", num_lost)


@both
def test_embedding(damaged, streaming):
    folder, good, num_lost = damaged
    read, notes = [], []
    for clip in Source(read_splits(folder, streaming)).read():
        try:
            read.append(number(load_audio(clip.audio)))
        except BadClipError as error:
            notes.append(clip.note(error))
    assert read == good
    assert [(note.kind, note.num_clips) for note in notes] == [("corrupt shard", num_lost)]


@both
def test_preparation(damaged, streaming, tmp_path):
    folder, good, num_lost = damaged
    arguments = ["--dataset_name", str(folder), "--output_dir", str(tmp_path / "out"), "--num_workers", "1"]
    report = prepare_audio.main(arguments + ["--streaming"] * streaming)
    rows = read_splits(tmp_path / "out", False)["train"].cast_column("audio", Audio(decode=False))
    assert [number(load_audio(row["audio"])) for row in rows] == good
    assert Counter(report["skipped"]) == {"corrupt shard": num_lost} and report["clips"] == len(good)
