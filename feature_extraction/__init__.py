from transformers import AutoFeatureExtractor

from .audio import SILENCE, AudioDecodingError, AudioFile, SilentAudioError, load_audio, open_audio
from .clip_reader import Position, ReaderState
from .collator import ClipDecoder, COLADataCollator
from .feature_extraction_cola import COLAFeatureExtractor
from .loading import find_audio_column, load_audio_dataset, undecoded
from .pair_drawer import ClipNote, SegmentPair
from .segment_stream import SegmentPairs, collate_segment_pairs
from .segments import random_segments


# The extractor is found by its own name: the two packages do not import each other, so there is no config to file it
# under. `register_for_auto_class` makes `save_pretrained` copy the code, for `trust_remote_code=True`.
AutoFeatureExtractor.register(COLAFeatureExtractor, COLAFeatureExtractor)
COLAFeatureExtractor.register_for_auto_class()

__all__ = [
    "AudioDecodingError",
    "AudioFile",
    "COLADataCollator",
    "COLAFeatureExtractor",
    "ClipDecoder",
    "ClipNote",
    "Position",
    "ReaderState",
    "SILENCE",
    "SegmentPair",
    "SegmentPairs",
    "SilentAudioError",
    "collate_segment_pairs",
    "find_audio_column",
    "load_audio",
    "load_audio_dataset",
    "open_audio",
    "random_segments",
    "undecoded",
]
