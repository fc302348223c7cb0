"""The results of the benchmark on the disk, so that nothing is measured twice."""

import hashlib
import json
from pathlib import Path
from typing import Any

from datasets import DatasetDict

from feature_extraction import find_audio_column
from run_scripts.benchmark.arguments import BenchmarkArguments
from run_scripts.benchmark.methods import Method
from run_scripts.benchmark.results import METRICS
from run_scripts.common.files import write_json
from run_scripts.embedding.cache import hash_clips


VERSION = 4  # Increase it when the same settings give other metrics than before.


class ResultsStore:
    """
    The results on one task, whose name is that of the folder. Each method with each seed has a file, named by a hash
    of all that its metrics depend on: by what the clips hold, so that a copy of their folder is not measured anew.
    """

    def __init__(self, folder: Path, splits: DatasetDict, args: BenchmarkArguments):
        self.folder, self.splits, self.args = folder, splits, args
        self.content = {
            split: {
                "clips": hash_clips(clips, find_audio_column(clips)),
                "labels": list(clips["label"]),
                "groups": list(clips["group"]) if args.folds and "group" in clips.column_names else None,
            }
            for split, clips in splits.items()
        }

    def key(self, method: Method) -> str:
        """Returns the hash of all that the metrics of a method depend on."""
        settings = {
            "version": VERSION,
            "mode": method.mode,
            "encoder": method.encoder_hash,
            "seed": method.seed,
            "content": self.content,
            "training": self.args.training(method.mode),
            "folds": self.args.folds,
            "skip_bad_clips": self.args.skip_bad_clips,
        }
        return hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode()).hexdigest()[:16]

    def path(self, method: Method) -> Path:
        """Returns the file of a method."""
        return self.folder / f"{method.mode}-seed{method.seed}-{self.key(method)}.json"

    def read(self, method: Method) -> dict[str, Any] | None:
        """Reads the result of a method; `None` if there is none, or if its file is damaged."""
        try:
            result = json.loads(self.path(method).read_text())
        except (OSError, ValueError):
            return None
        # The checkpoint may have been renamed since.
        return result | {"method": method.name, "folds": self.args.folds}

    def write(self, method: Method, metrics: dict[str, float]) -> None:
        """Writes the metrics of a method, and the seconds that they took."""
        result = {"task": self.folder.name, "method": method.name, "mode": method.mode, "seed": method.seed}
        result |= dict.fromkeys(METRICS) | {name: round(value, 4) for name, value in metrics.items()}
        result |= {f"num_{name}": len(split) for name, split in self.splits.items()}
        result |= {"training": self.args.training(method.mode), "key": self.key(method)}
        self.folder.mkdir(parents=True, exist_ok=True)
        write_json(self.path(method), result)
