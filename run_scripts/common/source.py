"""Loading the recordings that a job reads."""

import logging

from datasets import Dataset, DatasetDict, IterableDataset, IterableDatasetDict

from feature_extraction import describe_splits, find_audio_column, load_audio_dataset, undecoded
from run_scripts.common.errors import UserError
from run_scripts.common.source_arguments import SourceArguments


logger = logging.getLogger(__name__)


def load_splits(
    source: SourceArguments, splits: DatasetDict | IterableDatasetDict | None = None
) -> DatasetDict | IterableDatasetDict:
    """
    Loads the split that a job reads, or all splits if none is named, and logs what all of them hold.

    Args:
        source ([`SourceArguments`]):
            Which recordings.
        splits (`DatasetDict` or `IterableDatasetDict`, *optional*):
            The data set, if it is loaded already.

    Raises:
        `ValueError`, `FileNotFoundError`: if there is no such data set or split.
    """
    if splits is None:
        splits = load_audio_dataset(
            source.dataset_name, source.dataset_config_name, source.streaming, source.allow_remote_audio
        )
    logger.info(f"{source.dataset_name} has {describe_splits(splits)}.")
    if source.dataset_split is None:
        return splits
    if source.dataset_split not in splits:
        raise UserError(f"There is no split {source.dataset_split!r}; there are {', '.join(splits)}.")
    return type(splits)({source.dataset_split: splits[source.dataset_split]})


def load_source(
    source: SourceArguments, splits: DatasetDict | IterableDatasetDict | None = None
) -> tuple[Dataset | IterableDataset, str]:
    """
    Loads the split that a job reads. The arguments are those of [`load_splits`].

    Returns:
        The recordings, with their audio left encoded, and the name of the audio column.

    Raises:
        `ValueError`, `FileNotFoundError`: if there is no such data set, split or column.
    """
    dataset = load_splits(source, splits)[source.dataset_split]
    column = find_audio_column(dataset, source.audio_column)
    return undecoded(dataset, column), column
