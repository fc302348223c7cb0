"""Searching embedded clips for those that sound like a query."""

import logging
import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Dataset

from feature_extraction import BadClipError, COLAFeatureExtractor
from modeling_cola import COLAModel
from run_scripts.common.errors import MissingFileError, UserError
from run_scripts.embedding.arguments import EmbeddingArguments
from run_scripts.embedding.cache import hash_encoder
from run_scripts.embedding.embed import load_model, read_settings
from run_scripts.embedding.encode import embed_clips, mean_vector
from run_scripts.embedding.parts import find_parts, is_complete


logger = logging.getLogger(__name__)

# Rows that are standardised at a time.
BLOCK_ROWS = 2**14
# Vectors whose components deviate by less than this are those of the same sound.
SAME = 1e-5


class Index:
    """
    The embedded clips or windows in a folder, ready to be searched.

    The similarity of two clips is the cosine of their standardised vectors, as in the benchmark's table of nearest
    neighbours: 1 for the same sound, and around 0 for any two clips. Of a single sound, whose vectors cannot be
    standardised, it is the cosine of the vectors themselves. A query is compared with all vectors; docs/embedding.md
    says what a million of them take.

    Args:
        folder (`Path`):
            The folder that `run_embedding.py` wrote.

    Attributes:
        rows (`Dataset`):
            The rows without their vectors.
        vectors (`np.ndarray` of shape `(num_rows, hidden_size)`):
            Their standardised vectors, of length 1.

    Raises:
        `FileNotFoundError`: If the folder has no vectors.
    """

    def __init__(self, folder: Path):
        parts = find_parts(folder)
        if not parts:
            raise MissingFileError(f"{folder} holds no vectors: pass --dataset_name to embed clips first.")
        if not is_complete(folder):
            logger.warning(f"{folder} is not complete: to embed all clips, repeat the command that wrote it.")
        self.vectors = np.empty((sum(pq.read_metadata(part).num_rows for part in parts), _hidden_size(parts[0])), "f4")
        tables, first = [], 0
        for part in parts:
            table = pq.read_table(part)
            vectors = table["vector"].combine_chunks().flatten().to_numpy()
            self.vectors[first : first + len(table)] = vectors.reshape(-1, self.vectors.shape[1])
            tables.append(table.drop_columns("vector"))
            first += len(table)
        self.rows = Dataset(pa.concat_tables(tables).combine_chunks())
        # In place and block after block, since a million vectors fill the memory of many computers.
        blocks = [self.vectors[first : first + BLOCK_ROWS] for first in range(0, len(self.vectors), BLOCK_ROWS)]
        mean = self.vectors.mean(axis=0, dtype=np.float64)
        deviation = np.sqrt(sum(np.square(block - mean).sum(axis=0) for block in blocks) / len(self.vectors))
        if deviation.max() < SAME:  # there is one sound
            mean, deviation = np.zeros_like(mean), np.ones_like(deviation)
        self.mean, self.deviation = mean.astype(np.float32), (deviation + 1e-6).astype(np.float32)
        for block in blocks:
            block[:] = self.standardise(block)

    def standardise(self, vectors: np.ndarray) -> np.ndarray:
        """Standardises vectors `[N, hidden_size]`, and scales them to length 1."""
        vectors = (vectors - self.mean) / self.deviation
        return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)

    def search(self, vector: np.ndarray, top_k: int = 10) -> list[dict[str, Any]]:
        """
        Finds the rows that are most similar to a query.

        Args:
            vector (`np.ndarray` of shape `(hidden_size,)`):
                The vector of the query, as the model gives it.
            top_k (`int`, *optional*, defaults to 10):
                How many rows to find.

        Returns:
            `list[dict[str, Any]]`: The rows, the most similar one first, each with its `similarity`.
        """
        query, top_k = self.standardise(vector[None])[0], min(top_k, len(self.vectors))
        similarities = self.vectors @ query
        numbers = np.argpartition(-similarities, top_k - 1)[:top_k]
        numbers = numbers[np.lexsort((numbers, -similarities[numbers]))]
        return [{"similarity": float(similarities[number]), **self.rows[int(number)]} for number in numbers]


def _hidden_size(part: Path) -> int:
    return pq.read_schema(part).field("vector").type.list_size


def load_own_model(folder: Path, checkpoint: str | None = None) -> tuple[COLAModel, COLAFeatureExtractor]:
    """
    Loads the model by which the clips in a folder were embedded, from where it was or from another checkpoint.

    Raises:
        `FileNotFoundError`: If the folder has no vectors.
        `ValueError`: If the checkpoint has other weights.
    """
    settings = read_settings(folder)
    checkpoint = checkpoint or settings["model_name_or_path"]
    model, extractor = load_model(checkpoint)
    if hash_encoder(model, extractor)[:16] != settings["weights"]:
        raise UserError(
            f"--model_name_or_path {checkpoint} has other weights than the model by which {folder} was made: name "
            "that model, or embed the clips again."
        )
    return model, extractor


def parse_query(query: str) -> tuple[str, float | None]:
    """Splits `file.wav@12.5` into the file and the time in seconds, which is `None` if the query is a file."""
    file, at, seconds = query.rpartition("@")
    if at and not Path(query).expanduser().exists():
        try:
            return file, float(seconds)
        except ValueError:
            pass
    return query, None


def embed_query(model: COLAModel, extractor: COLAFeatureExtractor, query: str) -> np.ndarray:
    """
    Embeds a query, `FILE` or `FILE@SECONDS`: a file as a whole, or the window in which a time lies. Returns the vector
    `(hidden_size,)`.

    Raises:
        [`BadClipError`]: If the file cannot be used.
        `ValueError`: If the time does not lie in it.
    """
    file, seconds = parse_query(query)
    _, clip = next(embed_clips(model, extractor, [(query, os.path.expanduser(file))]))
    if isinstance(clip, BadClipError):
        raise clip
    if seconds is None:
        return mean_vector(clip)
    if not 0 <= seconds < clip.seconds:
        raise UserError(f"--query {query}: {file} is {clip.seconds:.2f} s long, and {seconds:g} s is not in it.")
    samples_per_hop = model.config.window_hop * extractor.hop_length
    number = min(int(seconds * extractor.sampling_rate / samples_per_hop), clip.num_windows - 1)
    for chunk in clip.chunks:
        if number < len(chunk):
            return chunk[number]
        number -= len(chunk)


def format_hits(query: str, hits: list[dict[str, Any]]) -> str:
    """Formats what a search found, a line for each row: similarity, path, time and label."""
    lines = [query]
    for hit in hits:
        place = hit["path"] or f"clip {hit['clip']}"
        if "time" in hit:
            place += f"@{hit['time']:.2f}"
        label = f"  ({hit['label']})" if hit.get("label") else ""
        lines.append(f"  {hit['similarity']:6.3f}  {place}{label}")
    return "\n".join(lines)


def search_all(args: EmbeddingArguments) -> dict[str, list[dict[str, Any]]]:
    """
    Searches for every query of a command line, and prints and returns what is found. Errors are those of
    [`load_own_model`] and [`embed_query`].
    """
    index = Index(args.output_path)
    model, extractor = load_own_model(args.output_path, args.model_name_or_path)
    found = {}
    for query in args.query:
        found[query] = index.search(embed_query(model, extractor, query), args.top_k)
        print(format_hits(query, found[query]))
    return found
