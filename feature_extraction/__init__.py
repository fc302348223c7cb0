from transformers import AutoFeatureExtractor

from .audio import SILENCE, AudioDecodingError, AudioFile, SilentAudioError, load_audio, open_audio
from .downstream import TASKS, Task
from .feature_extraction_cola import COLAFeatureExtractor
from .labelled import ClipDecoder, COLADataCollator
from .segments import random_segments
from .streaming import (
    SegmentPair,
    SegmentPairs,
    collate_segment_pairs,
    find_audio_column,
    load_audio_dataset,
    undecoded,
)


# The extractor is found by its own name: the two packages do not import each other, so there is no config to file it
# under. `register_for_auto_class` makes `save_pretrained` copy the code, for `trust_remote_code=True`.
AutoFeatureExtractor.register(COLAFeatureExtractor, COLAFeatureExtractor)
COLAFeatureExtractor.register_for_auto_class()

__all__ = [
    "TASKS",
    "AudioDecodingError",
    "AudioFile",
    "COLADataCollator",
    "COLAFeatureExtractor",
    "ClipDecoder",
    "SILENCE",
    "SegmentPair",
    "SegmentPairs",
    "SilentAudioError",
    "Task",
    "collate_segment_pairs",
    "find_audio_column",
    "load_audio",
    "load_audio_dataset",
    "open_audio",
    "random_segments",
    "undecoded",
]
