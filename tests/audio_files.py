"""What several test files need of audio and data sets."""

import soundfile
from datasets import Audio, Features, List, Value
from pytest import MonkeyPatch


# The columns of AudioSet's copy on the Hub.
AUDIOSET = Features(
    {
        "video_id": Value("string"),
        "audio": Audio(),
        "labels": List(Value("string")),
        "human_labels": List(Value("string")),
    }
)


def count_decoded(monkeypatch: MonkeyPatch) -> list[int]:
    """A list that gets the number of samples of each read that soundfile does from here on."""
    decoded = []
    read = soundfile.SoundFile.read

    def counting_read(self, *args, **kwargs):
        samples = read(self, *args, **kwargs)
        decoded.append(len(samples))
        return samples

    monkeypatch.setattr(soundfile.SoundFile, "read", counting_read)
    return decoded
