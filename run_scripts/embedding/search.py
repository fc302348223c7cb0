"""Searching embedded clips for those that sound like a query."""

import logging
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Dataset
from tqdm.auto import tqdm

from feature_extraction import BadClipError, COLAFeatureExtractor
from modeling_cola import COLAModel
from run_scripts.common.errors import MissingFileError, UserError
from run_scripts.common.files import written_whole
from run_scripts.embedding.arguments import EmbeddingArguments
from run_scripts.embedding.cache import hash_encoder
from run_scripts.embedding.embed import load_model
from run_scripts.embedding.encode import embed_clips, mean_vector
from run_scripts.embedding.parts import find_parts, is_complete, read_settings


logger = logging.getLogger(__name__)

# The folder of an index, and its files. The last one says of which parts it is made.
INDEX, ROWS, VECTORS, STATISTICS, SOURCE = ".index", "rows.arrow", "vectors.npy", "statistics.npy", "parts.txt"
# Rows that are read and standardised at a time.
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

    The standardised vectors and the rows are kept on the disk, in a folder `.index` that the first search writes, and
    are mapped into memory, so that a folder with more vectors than the memory holds can be searched, too. If the
    folder cannot be written to, they are in a temporary one, as long as the index is in use.

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
        `OSError`: If the disk is full.
    """

    def __init__(self, folder: Path):
        parts = find_parts(folder)
        if not parts:
            raise MissingFileError(f"{folder} holds no vectors: pass --dataset_name to embed clips first.")
        if not is_complete(folder):
            logger.warning(f"{folder} is not complete: to embed all clips, repeat the command that wrote it.")
        path, source = folder / INDEX, _describe(parts)
        if not (path / SOURCE).is_file() or (path / SOURCE).read_text() != source:
            if not os.access(folder, os.W_OK):
                self._temporary = tempfile.TemporaryDirectory()
                path = Path(self._temporary.name) / INDEX
            with written_whole(path, sum(part.stat().st_size for part in parts)) as temporary:
                temporary.mkdir()
                write_index(parts, temporary)
                (temporary / SOURCE).write_text(source)
        self.rows = Dataset.from_file(str(path / ROWS))
        self.vectors = np.asarray(np.load(path / VECTORS, mmap_mode="r"))
        self.mean, self.deviation = np.load(path / STATISTICS)

    def standardise(self, vectors: np.ndarray) -> np.ndarray:
        """Standardises vectors `[N, hidden_size]`, and scales them to length 1."""
        return _standardise(vectors, self.mean, self.deviation)

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


def _describe(parts: list[Path]) -> str:
    """What an index is made of, by which it is known to be outdated."""
    return "".join(f"{part.name} {(status := part.stat()).st_size} {status.st_mtime_ns}\n" for part in parts)


def write_index(parts: list[Path], folder: Path) -> None:
    """
    Writes the rows of the parts, their standardised vectors, and the mean and deviation of the vectors to a folder. No
    more than a block of vectors is in memory at a time.
    """
    schema = pq.read_schema(parts[0]).remove_metadata()
    hidden_size = schema.field("vector").type.list_size
    schema = schema.remove(schema.names.index("vector"))
    shape = sum(pq.read_metadata(part).num_rows for part in parts), hidden_size
    vectors = np.lib.format.open_memmap(folder / VECTORS, "w+", np.float32, shape)
    first, total = 0, np.zeros(hidden_size)
    with pa.ipc.new_stream(folder / ROWS, schema) as rows, tqdm(total=len(vectors), desc="Indexing", delay=5) as bar:
        for batch in (batch for part in parts for batch in pq.ParquetFile(part).iter_batches(BLOCK_ROWS)):
            block = batch.column("vector").flatten().to_numpy().reshape(-1, hidden_size)
            vectors[first : first + len(block)] = block
            total += block.sum(axis=0, dtype=np.float64)
            rows.write_batch(batch.select(schema.names).cast(schema))
            first += len(block)
            bar.update(len(block))
    blocks = [vectors[first : first + BLOCK_ROWS] for first in range(0, len(vectors), BLOCK_ROWS)]
    mean = total / len(vectors)
    deviation = np.sqrt(sum(np.square(block - mean).sum(axis=0) for block in blocks) / len(vectors))
    if deviation.max() < SAME:  # there is one sound
        mean, deviation = np.zeros_like(mean), np.ones_like(deviation)
    statistics = np.stack([mean, deviation + 1e-6]).astype(np.float32)
    np.save(folder / STATISTICS, statistics)
    for block in blocks:
        block[:] = _standardise(block, *statistics)
    vectors.flush()


def _standardise(vectors: np.ndarray, mean: np.ndarray, deviation: np.ndarray) -> np.ndarray:
    vectors = (vectors - mean) / deviation
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


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
    # The start of a window, as the search and the map name it, may come out just below a whole number of hops.
    number = min(int(seconds * extractor.sampling_rate / samples_per_hop + 1e-6), clip.num_windows - 1)
    for chunk in clip.chunks:
        if number < len(chunk):
            return chunk[number]
        number -= len(chunk)


def name_row(row: dict[str, Any], path: str | None) -> str:
    """Names a row for readers: its path, as it is to be shown, or else its number; and the time of a window."""
    name = path or f"clip {row['clip']}"
    return f"{name}@{row['time']:.2f}" if "time" in row else name


def format_hits(query: str, hits: list[dict[str, Any]]) -> str:
    """Formats what a search found, a line for each row: similarity, path, time and label."""
    lines = [query]
    for hit in hits:
        label = f"  ({hit['label']})" if hit.get("label") else ""
        lines.append(f"  {hit['similarity']:6.3f}  {name_row(hit, hit['path'])}{label}")
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
