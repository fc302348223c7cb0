"""The arguments that say which recordings a script reads. Importing this file loads no heavy library."""

from dataclasses import dataclass, field


# What every script reads.
DATA = (
    "an audio file, a folder of audio files, a folder or glob of Parquet or tar files, a CSV or JSON Lines file, a "
    "list of files (.txt), or a data set on the Hub"
)


@dataclass
class DatasetArguments:
    """A data set, and its audio column."""

    dataset_name: str = field(metadata={"help": f"The recordings: {DATA}."})
    dataset_config_name: str | None = field(
        default=None, metadata={"help": "The configuration of a data set on the Hub."}
    )
    audio_column: str | None = field(
        default=None, metadata={"help": "The audio column. Defaults to the only column of type Audio."}
    )
    allow_remote_audio: bool = field(
        default=False,
        metadata={
            "help": "Whether rows that hold the path of an audio file, rather than the audio, may name any file and "
            "any URL. By default they may only name files below the data set's own folder."
        },
    )


@dataclass
class SourceArguments(DatasetArguments):
    """The recordings: a split of a data set, and its audio column."""

    dataset_split: str = field(default="train", metadata={"help": "The split to read."})
    streaming: bool = field(
        default=False,
        metadata={
            "help": "Whether to stream the data set, without a local copy. Each shard is then read by one worker."
        },
    )
