"""The arguments of `run_embedding.py`: which clips to embed, by which model, and what to do with the vectors."""

from dataclasses import dataclass, field
from pathlib import Path

from run_scripts.common.errors import UserError
from run_scripts.common.source_arguments import DATA, SourceArguments


CHECKPOINT = Path(__file__).parents[2] / "modeling_cola" / "cola-compact"


@dataclass
class EmbeddingArguments(SourceArguments):
    dataset_name: str | None = field(
        default=None,
        metadata={"help": f"The clips: {DATA}. Not needed to search or to map what is embedded already."},
    )
    dataset_split: str | None = field(default=None, metadata={"help": "The split to embed. Defaults to all splits."})
    output_dir: str = field(
        kw_only=True, metadata={"help": "The folder of the vectors: a new one, or that of an earlier run."}
    )
    label_column: str | None = field(
        default=None, metadata={"help": "The column of labels. Defaults to `label`, if there is one."}
    )
    model_name_or_path: str | None = field(
        default=None,
        metadata={
            "help": "The checkpoint: a folder or a model on the Hub. Defaults to cola-compact or, for a search, to "
            "the one by which the clips were embedded."
        },
    )
    windows: bool = field(
        default=False,
        metadata={"help": "Whether to write a vector for each window of 0.96 s, rather than one for each clip."},
    )
    query: list[str] | None = field(
        default=None,
        metadata={
            "help": "Audio files for which to print the most similar clips or windows. FILE@SECONDS searches with the "
            "window of the file at this time."
        },
    )
    top_k: int = field(default=10, metadata={"help": "How many clips to print for each query."})
    map: bool = field(
        default=False, metadata={"help": "Whether to write map.html, a page that shows the clips and plays them."}
    )
    push_to_hub: bool = field(
        default=False,
        metadata={"help": "Whether to push the vectors to the Hub as a data set, without the paths of this machine."},
    )
    hub_dataset_id: str | None = field(
        default=None, metadata={"help": "The data set to push to. Defaults to the name of --output_dir."}
    )

    def __post_init__(self) -> None:
        if self.top_k < 1:
            raise UserError(f"--top_k must be at least 1, got {self.top_k}.")

    @property
    def output_path(self) -> Path:
        return Path(self.output_dir)
