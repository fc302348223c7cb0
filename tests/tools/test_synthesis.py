import numpy as np
import pytest
import soundfile

from tools.synthesis import corpus as corpus_module
from tools.synthesis.corpus import FAMILIES, SAMPLING_RATE, synthesize_clip, write_corpus


def read_all(folder) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus")
    write_corpus(folder, clips_per_family=1, seed=3, num_processes=1)
    return folder


def test_there_are_enough_families():
    assert len(FAMILIES) >= 10


@pytest.mark.parametrize("family", FAMILIES)
def test_dry_sound_needs_only_a_generator(family):
    sound = FAMILIES[family](np.random.default_rng(0))
    assert sound.shape == (5 * SAMPLING_RATE,)
    assert np.isfinite(sound).all() and np.std(sound) > 0


@pytest.mark.parametrize("index", range(3))
@pytest.mark.parametrize("family", FAMILIES)
def test_clip_format_and_level(family, index):
    clip = synthesize_clip(family, index)
    assert clip.shape == (5 * SAMPLING_RATE,) and clip.dtype == np.float32
    assert np.isfinite(clip).all()
    assert 0.04 < np.abs(clip).max() < 1.0
    for second in np.split(clip, 5):
        assert np.std(second) > 1e-4


@pytest.mark.parametrize("family", FAMILIES)
def test_clip_depends_on_seed_and_index_only(family):
    clip = synthesize_clip(family, 1, seed=2)
    np.testing.assert_array_equal(clip, synthesize_clip(family, 1, seed=2))
    assert not np.array_equal(clip, synthesize_clip(family, 2, seed=2))
    assert not np.array_equal(clip, synthesize_clip(family, 1, seed=3))


@pytest.mark.parametrize("duration", [1.0, 2.3, 12.0])
@pytest.mark.parametrize("family", FAMILIES)
def test_duration(family, duration):
    clip = synthesize_clip(family, 0, duration=duration)
    assert clip.shape == (round(duration * SAMPLING_RATE),)
    assert np.isfinite(clip).all()


def test_corpus_layout(corpus):
    assert sorted(read_all(corpus)) == sorted(f"{family}/{family}_0000.flac" for family in FAMILIES)
    info = soundfile.info(corpus / "bells" / "bells_0000.flac")
    assert (info.samplerate, info.channels, info.subtype, info.frames) == (SAMPLING_RATE, 1, "PCM_16", 80000)
    written, _ = soundfile.read(corpus / "bells" / "bells_0000.flac")
    np.testing.assert_allclose(written, synthesize_clip("bells", 0, seed=3), atol=1 / 32768)


def test_corpus_does_not_depend_on_number_of_processes(corpus, tmp_path):
    write_corpus(tmp_path, clips_per_family=1, seed=3, num_processes=2)
    assert read_all(tmp_path) == read_all(corpus)


def test_existing_clips_are_kept(corpus, monkeypatch):
    before = read_all(corpus)
    made = []

    def record_call(family, index, seed):
        made.append((family, index, seed))
        return synthesize_clip(family, index, seed)

    (corpus / "rain" / "rain_0000.flac").unlink()
    monkeypatch.setattr(corpus_module, "synthesize_clip", record_call)
    write_corpus(corpus, clips_per_family=1, seed=3, num_processes=1)
    write_corpus(corpus, clips_per_family=1, seed=3)
    assert made == [("rain", 0, 3)]
    assert read_all(corpus) == before


def test_errors(tmp_path):
    with pytest.raises(ValueError, match="`family` must be one of plucked, .*, got 'kazoo'"):
        synthesize_clip("kazoo", 0)
    with pytest.raises(ValueError, match="duration"):
        synthesize_clip("bells", 0, duration=0)
    with pytest.raises(ValueError, match="clips_per_family"):
        write_corpus(tmp_path, clips_per_family=0)
    with pytest.raises(ValueError, match="num_processes"):
        write_corpus(tmp_path, num_processes=0)
