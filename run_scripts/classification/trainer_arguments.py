"""All arguments of the Trainer of classifiers. Importing this file loads PyTorch."""

from dataclasses import dataclass, field

import torch
from transformers import TrainingArguments

from run_scripts.classification.arguments import ProtocolArguments


@dataclass
class ClassificationArguments(ProtocolArguments, TrainingArguments):
    """The Trainer's arguments, with the defaults of [`ProtocolArguments`]."""

    dataloader_pin_memory: bool = field(
        default_factory=torch.cuda.is_available,
        metadata={"help": "Whether to pin memory, which makes copies to a GPU faster."},
    )

    def __post_init__(self) -> None:
        ProtocolArguments.__post_init__(self)
        TrainingArguments.__post_init__(self)
