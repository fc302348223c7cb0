"""
Clips that a damaged shard has lost. One row stands for them in the data, between the rows that can be read. In place
of audio it holds a stand-in, which says how many clips are lost and why; opening it raises a [`CorruptShardError`].
"""

import json
from typing import Any

from .errors import CorruptShardError


MARK = b"cola: lost clips "


def stand_in(name: str, reason: str, num_clips: int = 1) -> dict[str, Any]:
    """
    Makes what stands for lost clips in a column of audio.

    Args:
        name (`str`):
            What lists of skipped clips call them: the shard or, if its damage ends before it does, the place in it.
        reason (`str`):
            Which shard it is and what is wrong with it.
        num_clips (`int`, *optional*, defaults to 1):
            How many clips are lost, or about how many if that is not known. At least one is counted.
    """
    content = {"path": name, "message": reason, "num_clips": max(num_clips, 1)}
    return {"bytes": MARK + json.dumps(content).encode(), "path": name}


def is_lost(audio: dict[str, Any] | None) -> bool:
    """Whether the audio of a row stands for lost clips."""
    data = (audio or {}).get("bytes")
    return data is not None and data[: len(MARK)] == MARK


def raise_if_lost(data: bytes | bytearray | memoryview) -> None:
    """
    Raises the error that a stand-in for lost clips holds, and does nothing for the content of an audio file.

    Raises:
        [`CorruptShardError`]: if the data is a stand-in.
    """
    if data[: len(MARK)] == MARK:
        raise CorruptShardError(**json.loads(bytes(data[len(MARK) :])))
