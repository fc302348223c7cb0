from pathlib import Path

import datasets
import pytest

from helpers import AUDIOSET, audio_dataset, flac, numbered_clip


@pytest.fixture(autouse=True)
def clean_home(monkeypatch, tmp_path_factory):
    """Keeps the cache out of the home folder."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session")
def parquet(tmp_path_factory) -> Path:
    """The numbered clips 0 to 23 in four shards of AudioSet's schema, each of which has every fourth clip."""
    folder = tmp_path_factory.mktemp("audioset")
    for shard in range(4):
        numbers = range(shard, 24, 4)
        rows = audio_dataset(
            [{"bytes": flac(numbered_clip(i)), "path": f"audio/train/{i}.flac"} for i in numbers],
            AUDIOSET,
            video_id=[str(i) for i in numbers],
            labels=[["/m/0"]] * len(numbers),
            human_labels=[["Speech"]] * len(numbers),
        )
        rows.to_parquet(folder / f"train-{shard:05}-of-00004.parquet")
    return folder
