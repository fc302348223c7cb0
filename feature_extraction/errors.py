"""What can be wrong with audio. One clip's faults are [`BadClipError`]s, so that one `except` can skip the clip."""


class DataError(ValueError):
    """Raised when a data set of audio cannot be used as it is. The message says which one, and what to do."""


class MissingDataError(DataError, FileNotFoundError):
    """Raised when there is no data set of the name that was given, or no audio in it."""


class BadClipError(DataError):
    """
    Raised when one clip, or one shard of clips, cannot be used. Nothing is wrong with the others, so that a script can
    skip it and report its kind.

    Args:
        message (`str`):
            Which audio it is and what is wrong with it.
        kind (`str`, *optional*):
            One of [`BAD_CLIP_KINDS`]. Defaults to that of the class.
    """

    kind = "damaged"
    num_clips = 1

    def __init__(self, message: str, kind: str | None = None):
        super().__init__(message)
        if kind is not None:
            self.kind = kind


class AudioDecodingError(BadClipError):
    """
    Raised when audio cannot be decoded. Its kind is `"empty"` for audio without samples, `"not finite"` for samples
    that are infinite or not a number, `"unreadable"` if the operating system refuses the file, and `"damaged"` for
    anything else that soundfile cannot decode, including files of other formats.
    """


class MissingAudioError(BadClipError, FileNotFoundError):
    """Raised when the file of a clip does not exist."""

    kind = "missing"


class SilentAudioError(BadClipError):
    """Raised when audio has no sample above [`SILENCE`]."""

    kind = "silent"


class CorruptShardError(BadClipError):
    """
    Raised when audio is opened that stands for clips which a damaged Parquet or tar file has lost.

    Args:
        message (`str`):
            Which shard it is and what is wrong with it.
        path (`str`, *optional*):
            The file, or the place in it.
        num_clips (`int`, *optional*, defaults to 1):
            How many clips are lost, or about how many.
    """

    kind = "corrupt shard"

    def __init__(self, message: str, path: str = "", num_clips: int = 1):
        super().__init__(message)
        self.path = path
        self.num_clips = num_clips


# Why a clip is skipped.
BAD_CLIP_KINDS = ("empty", "damaged", "not finite", "missing", "unreadable", "silent", "corrupt shard")
