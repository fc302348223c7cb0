"""Vectors for other people: a copy that tells nothing of this machine, and a data set on the Hub."""

import os
import re
import tempfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from huggingface_hub import DatasetCardData, HfApi

from run_scripts.common.cards import write_card
from run_scripts.common.errors import UserError
from run_scripts.common.files import write_json, written_whole
from run_scripts.common.hub import hub_name
from run_scripts.embedding.parts import GROUP_ROWS, PARTS, SETTINGS, find_parts, is_complete, read_settings


def copy_vectors(folder: Path, target: Path, checkpoint: str | None = None) -> None:
    """
    Copies the vectors in a folder to an empty one, without the paths of this machine. The copy can be searched as the
    folder can, by `checkpoint` or else by the folder's model, if that is on the Hub.

    Raises:
        `FileNotFoundError`: If the folder has no vectors.
        `OSError`: If the copy cannot be written.
    """
    settings = read_settings(folder)
    source = Path(settings["dataset_name"] or "")
    root = source if source.is_dir() else source.parent
    for part in find_parts(folder):
        with written_whole(target / part.name, part.stat().st_size) as copy:
            _copy_part(part, copy, root)
    settings["dataset_name"] = hub_name(settings["dataset_name"])
    settings["model_name_or_path"] = checkpoint or hub_name(settings["model_name_or_path"])
    write_json(target / SETTINGS, settings)


def _copy_part(part: Path, target: Path, root: Path) -> None:
    """Copies a part with shared paths."""
    table = pq.read_table(part)
    paths = [shared_path(path, root) for path in table["path"].to_pylist()]
    table = table.set_column(table.column_names.index("path"), "path", pa.array(paths, pa.string()))
    pq.write_table(table.replace_schema_metadata(), target, row_group_size=GROUP_ROWS)


def shared_path(path: str | None, root: Path) -> str | None:
    """
    Returns what other people see of the path of a clip: of a local file the path relative to the folder of the data,
    or the name alone if it is not in this folder; of anything else, such as a URL, the path as it is.
    """
    local = re.split("file://|::(?=/)", path or "")[-1]  # `zip://clip.wav::/folder/clips.zip` names a local file, too
    if not os.path.isabs(local):
        return path
    return os.path.relpath(local, root) if Path(local).is_relative_to(root) else os.path.basename(local)


def push_vectors(folder: Path, repo_id: str) -> None:
    """
    Pushes the vectors in a folder to a data set on the Hub, which exists, in one commit. A folder that is not complete
    is a [`UserError`].
    """
    if not is_complete(folder):
        raise UserError(f"{folder} is not complete: to embed all clips, repeat the command that wrote it.")
    with tempfile.TemporaryDirectory(dir=folder, prefix=".push-") as copy:
        copy_vectors(folder, Path(copy))
        write_vectors_card(Path(copy) / "README.md", folder, repo_id)
        HfApi().upload_folder(
            repo_id=repo_id,
            repo_type="dataset",
            folder_path=copy,
            delete_patterns=PARTS,  # those of an earlier push
            commit_message="Upload vectors and their card",
        )


def write_vectors_card(path: Path, folder: Path, repo_id: str) -> None:
    """Writes the card of the vectors in a folder, with what the Hub and `datasets` read of it."""
    settings, parts = read_settings(folder), find_parts(folder)
    data, model = hub_name(settings["dataset_name"]), hub_name(settings["model_name_or_path"])
    footers = [pq.read_metadata(part) for part in parts]
    schema = pq.read_schema(parts[0])
    card_data = DatasetCardData(
        task_categories=["feature-extraction"],
        tags=["audio", "cola", "embeddings"],
        source_datasets=[data] if data else None,
        configs=[{"config_name": "default", "data_files": PARTS}],
    )
    write_card(
        path,
        "vectors",
        card_data,
        repo_id=repo_id,
        name=repo_id.split("/")[-1],
        data=data or Path(settings["dataset_name"] or folder).name,
        model=model or Path(settings["model_name_or_path"]).name,
        num_rows=sum(footer.num_rows for footer in footers),
        hours=sum(map(_seconds, parts)) / 3600,
        hidden_size=schema.field("vector").type.list_size,
        columns=schema.names,
    )


def _seconds(part: Path) -> float:
    """Seconds of audio in a part. A clip of several windows has several rows, all of them in the same part."""
    table = pq.read_table(part, columns=["clip", "seconds"])
    return sum(dict(zip(table["clip"].to_pylist(), table["seconds"].to_pylist())).values())
