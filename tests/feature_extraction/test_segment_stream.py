"""The stream of segment pairs: every clip once an epoch, resumption, and clips that cannot be read."""

import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import Audio, Dataset
from torch.utils.data import DataLoader

from feature_extraction import (
    ClipNote,
    Position,
    ReaderState,
    SegmentPair,
    SegmentPairs,
    collate_segment_pairs,
    load_audio_dataset,
)
from feature_extraction.pair_drawer import PairDrawer
from helpers import audio_dataset, encode, flac, numbered_clip, write_flac, write_tar


POOL = Path(__file__).parents[3] / "shared" / "data" / "pretrain"
RATE = 16000
NUM_CLIPS = 24  # of the fixture `parquet`


def number(segment: np.ndarray | torch.Tensor) -> int:
    return int(100 * float(segment[0]))


@pytest.fixture
def clips(parquet, request):
    """The same clips with random access and as a stream."""
    return load_audio_dataset(str(parquet), streaming=request.param)["train"]


both_kinds = pytest.mark.parametrize("clips", [False, True], ids=["map", "stream"], indirect=True)


def loader(dataset, num_workers: int = 0, batch_size: int = 1, num_samples: int = 400, **kwargs) -> DataLoader:
    pairs = SegmentPairs(dataset, num_samples, **kwargs)
    return DataLoader(pairs, batch_size=batch_size, num_workers=num_workers, collate_fn=collate_segment_pairs)


def take(dataset, num_batches: int, **kwargs) -> list[dict]:
    batches = iter(loader(dataset, **kwargs))
    try:
        return [next(batches) for _ in range(num_batches)]
    finally:  # an error would keep the workers, to be waited for by some later test
        getattr(batches, "_shutdown_workers", lambda: None)()


def take_epochs(dataset, num_epochs: int = 1, num_workers: int = 0, **kwargs) -> list[list[dict]]:
    """By epoch, the batches of one pair each, up to the first that each worker gives of the epoch after them."""
    epochs = [[] for _ in range(num_epochs + 1)]
    done = set()
    for batch in loader(dataset, num_workers, **kwargs):
        worker, epoch = batch["state"].worker, batch["state"].buffer_start.epoch
        if epoch >= num_epochs:
            done.add(worker)
        epochs[min(epoch, num_epochs)].append(batch)
        if len(done) == max(num_workers, 1):
            return epochs


def numbers(batches: list[dict]) -> list[int]:
    """Which clips the anchors are of."""
    return [number(segment) for batch in batches for segment in batch["waveforms"].chunk(2)[0]]


def assert_same_batches(batches: list[dict], expected: list[dict]) -> None:
    assert [numbers([batch]) for batch in batches] == [numbers([batch]) for batch in expected]
    for batch, other in zip(batches, expected):
        assert torch.equal(batch["waveforms"], other["waveforms"])
        assert batch["state"] == other["state"]


# The audio column


def test_several_audio_columns():
    two = Dataset.from_dict({"sound": ["a.wav"], "noise": ["b.wav"]})
    two = two.cast_column("sound", Audio()).cast_column("noise", Audio())
    with pytest.raises(ValueError, match="2 columns"):
        SegmentPairs(two, 400)
    assert SegmentPairs(two, 400, audio_column="noise").audio_column == "noise"


# Every clip once an epoch


def test_every_clip_of_tar_files_once_an_epoch(tmp_path):
    for shard in range(2):
        files = {f"{i}.flac": flac(numbered_clip(i)) for i in range(shard, 8, 2)}
        write_tar(tmp_path / f"train-{shard:03}.tar", files)
    epochs = take_epochs(load_audio_dataset(str(tmp_path))["train"], 2, num_workers=2)
    assert [sorted(numbers(epoch)) for epoch in epochs[:2]] == [list(range(8))] * 2


@both_kinds
@pytest.mark.parametrize("num_workers", [0, 1, 2])
@pytest.mark.parametrize("world_size", [1, 2])
def test_every_clip_once_an_epoch(clips, world_size, num_workers):
    read = [[], []]
    for rank in range(world_size):
        epochs = take_epochs(clips, 2, num_workers, rank=rank, world_size=world_size)
        for epoch in (0, 1):
            assert len(epochs[epoch]) == NUM_CLIPS // world_size
            read[epoch] += numbers(epochs[epoch])
    assert [sorted(epoch) for epoch in read] == [list(range(NUM_CLIPS))] * 2


@pytest.mark.parametrize("buffer_size", [1, 4, 100])
def test_every_clip_once_an_epoch_whatever_the_buffer(parquet, buffer_size):
    """Three readers have two, one and one of the four shards."""
    train = load_audio_dataset(str(parquet), streaming=True)["train"]
    epochs = [take_epochs(train, 2, rank=rank, world_size=3, buffer_size=buffer_size)[:2] for rank in range(3)]
    for epoch in (0, 1):
        read = [numbers(reader[epoch]) for reader in epochs]
        assert sorted(sum(read, [])) == list(range(NUM_CLIPS))
        assert sorted(map(len, read)) == [6, 6, 12]


def test_buffer_mixes_shards(parquet):
    train = load_audio_dataset(str(parquet), streaming=True)["train"]
    in_turn = [i % 4 for i in numbers(take_epochs(train, buffer_size=1)[0])]
    assert sum(a != b for a, b in zip(in_turn, in_turn[1:])) == 3
    mixed = [i % 4 for i in numbers(take_epochs(train, buffer_size=100)[0])]
    assert sum(a != b for a, b in zip(mixed, mixed[1:])) > 6


def test_held_out_clips_of_a_stream_are_never_read(parquet):
    train = load_audio_dataset(str(parquet), streaming=True)["train"]
    first, second, _ = take_epochs(train, 2, held_out={0: 6, 1: 2})
    assert sorted(numbers(first)) == sorted(numbers(second)) == sorted({*range(24)} - {0, 4, 8, 12, 16, 20, 1, 5})


@both_kinds
def test_order(clips):
    first, second, _ = [numbers(epoch) for epoch in take_epochs(clips, 2, seed=1)]
    assert first != sorted(first) and first != second
    assert numbers(take_epochs(clips, seed=1)[0]) == first
    assert numbers(take_epochs(clips, seed=2)[0]) != first


@both_kinds
def test_without_shuffling(clips):
    stored = [row["video_id"] for row in clips.cast_column("audio", Audio(decode=False))]
    for epoch in take_epochs(clips, 2, shuffle=False)[:2]:
        assert [str(i) for i in numbers(epoch)] == stored


@both_kinds
@pytest.mark.parametrize("num_workers", [0, 2])
def test_same_seed_same_stream(clips, num_workers):
    assert_same_batches(*(take(clips, 15, num_workers=num_workers, batch_size=2, seed=3) for _ in range(2)))


@both_kinds
def test_pairs(clips):
    pairs = iter(SegmentPairs(clips, 400))
    pairs = [next(pairs) for _ in range(2 * NUM_CLIPS)]
    assert {pair.anchor.shape for pair in pairs} == {pair.positive.shape for pair in pairs} == {(400,)}
    assert [number(pair.anchor) for pair in pairs] == [number(pair.positive) for pair in pairs]
    offsets = {(number(pair.anchor), float(pair.anchor[0]), float(pair.positive[0])) for pair in pairs}
    assert len(offsets) == 2 * NUM_CLIPS  # other segments in each epoch
    assert np.mean([abs(pair.anchor[0] - pair.positive[0]) > 1e-5 for pair in pairs]) > 0.9


@pytest.mark.parametrize("num_workers", [0, 2])
def test_fewer_shards_than_readers(parquet, num_workers):
    single = load_audio_dataset(str(parquet / "train-00000-of-00004.parquet"), streaming=True)["train"]
    read = []
    for rank in range(3):
        read += numbers(take_epochs(single, num_workers=num_workers, rank=rank, world_size=3)[0])
    assert sorted(read) == list(range(0, NUM_CLIPS, 4))


def test_more_workers_than_shards(parquet):
    single = load_audio_dataset(str(parquet / "train-00000-of-00004.parquet"), streaming=True)["train"]
    assert sorted(set(numbers(take(single, 20, num_workers=2)))) == list(range(0, NUM_CLIPS, 4))


def test_fewer_shards_than_readers_is_warned_of(parquet, caplog):
    train = load_audio_dataset(str(parquet), streaming=True)["train"]
    take(train, 1, world_size=4)
    assert not caplog.records
    take(train, 1, world_size=5)
    assert "4 shards for 5 readers" in caplog.text


# Resumption


@pytest.mark.parametrize(
    "clips, buffer_size",
    [(False, 1), (True, 100), (True, 4)],
    ids=["map", "stream", "small buffer"],
    indirect=["clips"],
)
@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("num_done", [3, 6, 12, 15], ids=lambda n: f"after {n}")
def test_resumption_is_exact(clips, buffer_size, num_workers, num_done):
    """Batches of two clips, so an epoch of 24 ends after 12."""
    batches = take(clips, 20, num_workers=num_workers, batch_size=2, buffer_size=buffer_size)
    readers, next_worker = {}, 0
    for batch in batches[:num_done]:
        state = batch["state"]
        readers[state.worker] = state
        next_worker = (state.worker + 1) % max(num_workers, 1)
    resumed = take(
        clips,
        20 - num_done,
        num_workers=num_workers,
        batch_size=2,
        buffer_size=buffer_size,
        state=readers,
        first_worker=next_worker,
    )
    assert_same_batches(resumed, batches[num_done:])


def test_resumption_twice(parquet):
    train = load_audio_dataset(str(parquet))["train"]
    batches = take(train, 9, batch_size=2)
    resumed, state = [], {}
    for _ in range(3):
        resumed += take(train, 3, batch_size=2, state=state)
        state = {0: resumed[-1]["state"]}
    assert_same_batches(resumed, batches)


# Clips that cannot be read


BAD_CLIPS = {
    "02_empty.flac": (b"", "empty", "0 bytes"),
    "04_infinite.wav": (
        encode(np.array([0.5, np.inf] * 800), subtype="FLOAT"),
        "not finite",
        "infinite or not a number",
    ),
    "05_text.wav": (b"This is no audio. " * 100, "damaged", "not audio that soundfile can decode"),
    "06_truncated.flac": (
        flac(np.random.default_rng(0).uniform(-0.5, 0.5, RATE))[:1000],
        "damaged",
        "damaged|truncated",
    ),
}


@pytest.fixture
def folder_with_bad_clips(tmp_path):
    """Ten files, of which four cannot be read; neither of two workers begins or ends with one of them."""
    bad = {int(name[:2]): name for name in BAD_CLIPS}
    for i in range(10):
        if i in bad:
            (tmp_path / bad[i]).write_bytes(BAD_CLIPS[bad[i]][0])
        else:
            write_flac(tmp_path / f"{i:02}.flac", numbered_clip(i))
    return tmp_path


@pytest.mark.parametrize("num_workers", [0, 1, 2])
def test_bad_clips_are_skipped_and_noted(folder_with_bad_clips, num_workers):
    train = load_audio_dataset(str(folder_with_bad_clips))["train"]
    epochs = take_epochs(train, 2, num_workers, shuffle=False)
    for epoch in epochs[:2]:
        assert sorted(numbers(epoch)) == [0, 1, 3, 7, 8, 9]
        notes = [note for batch in epoch for note in batch["notes"]]
        assert sorted(Path(name).name for _, name, *_ in notes) == sorted(BAD_CLIPS)
        for kind, name, reason, _ in notes:
            assert name in reason
            _, expected_kind, expected_reason = BAD_CLIPS[Path(name).name]
            assert kind == expected_kind
            assert any(part in reason for part in expected_reason.split("|"))


@pytest.mark.parametrize("streaming", [False, True])
def test_bad_rows_are_skipped_and_noted(tmp_path, streaming):
    encoded = {f"good{i}.flac": flac(numbered_clip(i)) for i in range(8)}
    encoded |= {name: data for name, (data, *_) in BAD_CLIPS.items()}
    rows = audio_dataset([{"bytes": data, "path": name} for name, data in encoded.items()])
    rows.to_parquet(tmp_path / "train.parquet")
    train = load_audio_dataset(str(tmp_path), streaming=streaming)["train"]
    epochs = take_epochs(train, 3)
    assert [sorted(numbers(epoch)) for epoch in epochs[:3]] == [list(range(8))] * 3
    counts = Counter(name for epoch in epochs for batch in epoch for _, name, *_ in batch["notes"])
    assert set(counts) == set(BAD_CLIPS) and set(counts.values()) <= {2, 3, 4}
    # A clip at the end of an epoch is noted with some pair of the next one, and the fourth epoch has begun.


def test_missing_file_is_skipped(tmp_path):
    for i in range(3):
        write_flac(tmp_path / f"{i}.flac", numbered_clip(i))
    train = load_audio_dataset(str(tmp_path))["train"]
    (tmp_path / "1.flac").unlink()
    batches = take(train, 4, shuffle=False)
    assert numbers(batches) == [0, 2, 0, 2]
    (kind, name, reason, _), *others = [note for batch in batches[:2] for note in batch["notes"]]
    assert kind == "missing" and not others and Path(name).name == "1.flac" and "No such file" in reason


def test_file_that_cannot_be_opened_is_skipped(tmp_path):
    for i in range(3):
        write_flac(tmp_path / f"{i}.flac", numbered_clip(i))
    train = load_audio_dataset(str(tmp_path))["train"]
    (tmp_path / "1.flac").unlink()
    (tmp_path / "1.flac").mkdir()
    batches = take(train, 2, shuffle=False)
    assert numbers(batches) == [0, 2]
    assert [note.kind for batch in batches for note in batch["notes"]] == ["unreadable"]


# Corrupt shards


@pytest.fixture
def corrupt_shards(parquet, tmp_path, request) -> tuple[Path, str]:
    """The numbered clips in four shards, of which the second is damaged, and the name of that one."""
    if request.param == "parquet":
        shutil.copytree(parquet, tmp_path / "data")
        path = tmp_path / "data" / "train-00001-of-00004.parquet"
        path.write_bytes(path.read_bytes()[:-100])
        return tmp_path / "data", path.name
    if request.param == "first parquet":
        shutil.copytree(parquet, tmp_path / "data")
        path = tmp_path / "data" / "train-00000-of-00004.parquet"
        path.write_bytes(b"")
        return tmp_path / "data", path.name
    for shard in range(4):
        path = tmp_path / f"{shard}.tar"
        write_tar(path, {f"{i}.flac": flac(numbered_clip(i)) for i in range(shard, NUM_CLIPS, 4)})
    damaged = (tmp_path / "1.tar").read_bytes()[:1000]
    (tmp_path / "1.tar").write_bytes(damaged)
    return tmp_path, "1.tar"


@pytest.mark.parametrize("corrupt_shards", ["parquet", "first parquet", "tar"], indirect=True)
@pytest.mark.parametrize("num_workers", [0, 2, 5])
def test_corrupt_shard_is_skipped_and_noted(corrupt_shards, num_workers):
    """With five workers, each of them reads all four shards."""
    folder, name = corrupt_shards
    train = load_audio_dataset(str(folder), streaming=True)["train"]
    lost = {i for i in range(NUM_CLIPS) if i % 4 == (0 if "00000" in name else 1)}
    lost -= {1} if "tar" in name else set()  # the tar file is damaged after its first clip
    epochs = take_epochs(train, 2, num_workers)
    for epoch in epochs[:2]:
        assert sorted(numbers(epoch)) == [i for i in range(NUM_CLIPS) if i not in lost]
    notes = [note for epoch in epochs for batch in epoch for note in batch["notes"]]
    assert {(note.kind, Path(note.name).name) for note in notes} == {("corrupt shard", name)}
    assert all(name in note.reason for note in notes)
    # At the end of an epoch the shard is noted with some pair of the next one, and the third epoch has begun. Of
    # five workers, those that have fewer clips are two epochs ahead.
    assert 1 <= len(notes) <= (5 if num_workers == 5 else 3)


@pytest.mark.parametrize("corrupt_shards", ["parquet", "tar"], indirect=True)
@pytest.mark.parametrize("buffer_size", [1, 4, 100])
@pytest.mark.parametrize("num_done", [2, 7, 9, 11])
def test_resumption_beside_a_corrupt_shard_is_exact(corrupt_shards, buffer_size, num_done):
    """Batches of two clips, so an epoch of 18 or 19 ends after 9 or within the tenth."""
    train = load_audio_dataset(str(corrupt_shards[0]), streaming=True)["train"]
    batches = take(train, 14, batch_size=2, buffer_size=buffer_size)
    state = {0: batches[num_done - 1]["state"]}
    resumed = take(train, 14 - num_done, batch_size=2, buffer_size=buffer_size, state=state)
    assert_same_batches(resumed, batches[num_done:])


def corrupt_middle(path: Path) -> None:
    """Overwrites what is at four tenths of a file."""
    data = bytearray(path.read_bytes())
    middle = len(data) * 4 // 10
    data[middle : middle + 1000] = b"x" * 1000
    path.write_bytes(data)


def test_clips_of_a_corrupt_shard_are_counted(tmp_path):
    """By the footer of a Parquet file, or by the size of the file if that is damaged; by the other clips of a tar."""
    clips = [{"bytes": flac(numbered_clip(i)), "path": f"{i}.flac"} for i in range(100)]
    for name in ("whole", "footer", "truncated"):
        audio_dataset(clips).to_parquet(tmp_path / "parquet" / f"{name}.parquet", batch_size=10)
    corrupt_middle(tmp_path / "parquet" / "footer.parquet")
    truncated = tmp_path / "parquet" / "truncated.parquet"
    truncated.write_bytes(truncated.read_bytes()[:-10])
    write_tar(tmp_path / "tar" / "a.tar", {clip["path"]: clip["bytes"] for clip in clips})
    corrupt_middle(tmp_path / "tar" / "a.tar")
    for kind, num_clips in (("parquet", 300), ("tar", 100)):
        train = load_audio_dataset(str(tmp_path / kind), streaming=True)["train"]
        epochs = take_epochs(train, 2)
        lost = {note.name: note.num_clips for epoch in epochs for batch in epoch for note in batch["notes"]}
        assert len(numbers(epochs[0])) + sum(lost.values()) == pytest.approx(num_clips, abs=num_clips // 25), kind


def test_only_corrupt_shards(tmp_path):
    (tmp_path / "a.tar").write_bytes(b"This is no tar file." * 100)
    train = load_audio_dataset(str(tmp_path))["train"]
    with pytest.raises(ValueError, match="has 0 that can be read.*a.tar is not a whole tar file"):
        take(train, 1)


def test_row_without_audio_is_skipped():
    train = audio_dataset(
        [{"bytes": flac(numbered_clip(1)), "path": None}, None, {"bytes": flac(numbered_clip(2)), "path": None}]
    )
    batches = take(train, 4, shuffle=False)
    assert numbers(batches) == [1, 2, 1, 2]
    assert [[kind for kind, *_ in batch["notes"]] for batch in batches] == [[], ["empty"], [], ["empty"]]


def test_bad_clip_without_a_name_is_noted_by_its_row():
    train = audio_dataset([{"bytes": flac(numbered_clip(1)), "path": None}, {"bytes": b"", "path": None}])
    notes = [note for batch in take(train, 2, shuffle=False) for note in batch["notes"]]
    assert [name for _, name, *_ in notes] == ["row 1"]


@pytest.mark.parametrize("num_workers", [0, 2])
def test_nothing_but_bad_clips(tmp_path, num_workers):
    for name in ("a.wav", "b.wav", "c.wav"):
        (tmp_path / name).touch()
    train = load_audio_dataset(str(tmp_path))["train"]
    with pytest.raises(ValueError, match=r"has 0 that can be read.*[abc]\.wav is empty: it has 0 bytes"):
        take(train, 1, num_workers=num_workers)


def test_silent_clips_are_skipped_and_half_silent_ones_used(tmp_path):
    write_flac(tmp_path / "0.flac", np.zeros(1600))
    write_flac(tmp_path / "1.flac", numbered_clip(1))
    write_flac(tmp_path / "2.flac", np.concatenate([np.zeros(800), numbered_clip(2)]))
    train = load_audio_dataset(str(tmp_path))["train"]
    epochs = take_epochs(train, 5, shuffle=False)[:5]
    used = [batch for epoch in epochs for batch in epoch]
    assert all(batch["waveforms"].abs().amax(-1).gt(0).all() for batch in used)
    assert len(used) > 5  # three draws find the sound of the third clip in most epochs
    notes = [note for batch in used for note in batch["notes"] if Path(note[1]).name == "0.flac"]
    assert len(notes) == 5 and {kind for kind, *_ in notes} == {"silent"}


def test_too_many_bad_clips_in_a_row(tmp_path, monkeypatch):
    monkeypatch.setattr(PairDrawer, "MAX_BAD_IN_A_ROW", 5)
    for i in range(10):
        write_flac(tmp_path / f"{i}.flac", numbered_clip(1))
        if 2 <= i < 7:
            (tmp_path / f"{i}.flac").write_bytes(b"")
    train = load_audio_dataset(str(tmp_path))["train"]
    with pytest.raises(ValueError, match=r"5 clips in a row could not be read.*6\.flac is empty"):
        take(train, 5, shuffle=False)


def test_too_many_bad_clips_in_a_row_over_the_end_of_an_epoch(tmp_path, monkeypatch):
    monkeypatch.setattr(PairDrawer, "MAX_BAD_IN_A_ROW", 5)
    for i in range(6):
        write_flac(tmp_path / f"{i}.flac", numbered_clip(i))
        if i != 2:
            (tmp_path / f"{i}.flac").write_bytes(b"")
    train = load_audio_dataset(str(tmp_path))["train"]
    with pytest.raises(ValueError, match=r"5 clips in a row could not be read.*1\.flac is empty"):
        take(train, 2, shuffle=False)


def test_the_rest_of_an_epoch_may_have_fewer_clips_than_needed(clips_of_four):
    batches = take(clips_of_four, 8, min_clips=4)
    resumed = take(clips_of_four, 5, min_clips=4, state={0: batches[2]["state"]})
    assert_same_batches(resumed, batches[3:])


def test_fewer_clips_than_needed(clips_of_four):
    with pytest.raises(ValueError, match="4 clips has 4 that can be read.*5 are needed.*lower the batch size"):
        take(clips_of_four, 5, min_clips=5)
    take(clips_of_four, 5, min_clips=4)


@pytest.fixture
def clips_of_four(tmp_path):
    for i in range(4):
        write_flac(tmp_path / f"{i}.flac", numbered_clip(1))
    return load_audio_dataset(str(tmp_path))["train"]


# Other recordings and batches


def test_stereo_at_48_kilohertz(tmp_path):
    stereo = np.tile([0.5, 0.1], (48000, 1))
    (tmp_path / "good.flac").write_bytes(flac(stereo, 48000))
    train = load_audio_dataset(str(tmp_path))["train"]
    batch = take(train, 1, num_samples=8000)[0]
    assert batch["waveforms"].shape == (2, 8000) and batch["lengths"].tolist() == [8000, 8000]
    np.testing.assert_allclose(batch["waveforms"][:, 100:-100], 0.3, atol=0.01)


def test_other_sampling_rate(tmp_path):
    time = np.arange(RATE) / RATE
    write_flac(tmp_path / "a.flac", 0.5 * np.sin(2 * np.pi * 1000 * time))
    train = load_audio_dataset(str(tmp_path))["train"]
    segment = take(train, 1, num_samples=4000, sampling_rate=8000)[0]["waveforms"][0]
    assert torch.fft.rfft(segment).abs().argmax() * 8000 / 4000 == 1000


def test_short_clips_are_padded(tmp_path):
    for i, num_samples in enumerate((100, 400, 1600)):
        write_flac(tmp_path / f"{i}.flac", numbered_clip(i, num_samples))
    batch = take(load_audio_dataset(str(tmp_path))["train"], 1, batch_size=3, shuffle=False)[0]
    assert batch["waveforms"].shape == (6, 400)
    assert batch["lengths"].tolist() == [100, 400, 400] * 2
    assert batch["gaps"].isnan().tolist() == [True, True, False]  # only the last has two places
    ((kind, name, reason, _),) = batch["notes"]
    assert kind == "short" and Path(name).name == "0.flac" and "100 of 400 samples" in reason
    for waveform in batch["waveforms"][[0, 3]]:
        np.testing.assert_allclose(waveform[:100], numbered_clip(0, 100), atol=1e-6)
        assert not waveform[100:].any()


def test_collate_layout():
    pairs = [
        SegmentPair(
            anchor=np.full(3, 1.0, np.float32),
            positive=np.full(3, -1.0, np.float32),
            state=ReaderState(0, Position(0, 0, 4), 1),
            notes=[ClipNote("empty", "a", "bad")],
        ),
        SegmentPair(
            anchor=np.full(2, 2.0, np.float32),
            positive=np.full(1, -2.0, np.float32),
            state=ReaderState(0, Position(0, 0, 5), 1),
            notes=[ClipNote("damaged", "b", "worse")],
            gap=0.25,
        ),
    ]
    batch = collate_segment_pairs(pairs)
    assert batch["waveforms"].tolist() == [[1, 1, 1], [2, 2, 0], [-1, -1, -1], [-2, 0, 0]]
    assert batch["waveforms"].dtype == torch.float32
    assert batch["lengths"].tolist() == [3, 2, 3, 1]
    assert batch["gaps"].dtype == torch.float32
    assert batch["gaps"][0].isnan() and batch["gaps"][1] == 0.25
    assert batch["state"] == ReaderState(worker=0, buffer_start=Position(epoch=0, shard=0, row=5), num_given=1)
    assert batch["notes"] == [ClipNote("empty", "a", "bad"), ClipNote("damaged", "b", "worse")]


@pytest.mark.skipif(not POOL.is_dir(), reason="the pool of recordings is not there")
@pytest.mark.parametrize("num_workers", [0, 1])
def test_pool(num_workers):
    train = load_audio_dataset(str(POOL), streaming=True)["train"]
    for batch in take(train, 3, num_workers=num_workers, batch_size=8, num_samples=15600, buffer_size=32):
        assert batch["waveforms"].shape == (16, 15600) and batch["waveforms"].isfinite().all()
        assert batch["waveforms"].abs().amax(-1).count_nonzero() > 12
        assert (batch["lengths"] > 0).all() and batch["lengths"].max() == 15600
        assert {kind for kind, *_ in batch["notes"]} <= {"short", "silent"}
