"""
The input side of COLA: from encoded audio to the features that the model reads.

- `audio` decodes audio that `audio_source` opens, `errors` says what can be wrong with it;
- `segments` draws random segments of a recording, `feature_extraction_cola` computes log-mel features of waveforms;
- `loading` loads data sets that have an audio column: folders of audio (`audio_folder`), `parquet` and `tars`;
- `collator` decodes and batches labelled clips of them;
- `clip_reader` reads such data sets clip by clip, what a damaged file has lost included (`lost_clips`);
- `pair_drawer` and `segment_stream` make a stream of segment pairs of these clips, for pre-training.
"""

from transformers import AutoFeatureExtractor

from .audio import SILENCE, AudioFile, load_audio, open_audio
from .clip_reader import Clip, ClipNote, ClipReader, Position, ReaderState
from .collator import ClipDecoder, COLADataCollator
from .errors import (
    BAD_CLIP_KINDS,
    AudioDecodingError,
    BadClipError,
    CorruptShardError,
    DataError,
    MissingAudioError,
    MissingDataError,
    SilentAudioError,
)
from .feature_extraction_cola import COLAFeatureExtractor
from .loading import describe_splits, find_audio_column, load_audio_dataset, undecoded
from .pair_drawer import SegmentPair
from .segment_stream import MixedSegmentPairs, SegmentPairs, collate_segment_pairs, shares_of
from .segments import random_segments


# `AutoFeatureExtractor` usually finds an extractor by the class of the model's config. This package does not import
# the model's, so the extractor is registered under its own class. `register_for_auto_class` makes `save_pretrained`
# copy the code, for `trust_remote_code=True`.
AutoFeatureExtractor.register(COLAFeatureExtractor, COLAFeatureExtractor)
COLAFeatureExtractor.register_for_auto_class()

__all__ = [
    "AudioDecodingError",
    "AudioFile",
    "BAD_CLIP_KINDS",
    "BadClipError",
    "COLADataCollator",
    "COLAFeatureExtractor",
    "Clip",
    "ClipDecoder",
    "ClipNote",
    "ClipReader",
    "CorruptShardError",
    "DataError",
    "MissingAudioError",
    "MissingDataError",
    "MixedSegmentPairs",
    "Position",
    "ReaderState",
    "SILENCE",
    "SegmentPair",
    "SegmentPairs",
    "SilentAudioError",
    "collate_segment_pairs",
    "describe_splits",
    "find_audio_column",
    "load_audio",
    "load_audio_dataset",
    "open_audio",
    "random_segments",
    "shares_of",
    "undecoded",
]
