"""What `measure_speed.py` compares: for each task, this project and other libraries that do the same."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Subject:
    """
    One row of the table.

    Args:
        name (`str`):
            What the table calls it.
        workload (`str`):
            The function in `tools.speed.workloads` that sets it up.
        arguments (`tuple[str, ...]`, *optional*):
            The arguments of this function.
    """

    name: str
    workload: str
    arguments: tuple[str, ...] = ()


@dataclass(frozen=True)
class Comparison:
    """
    Subjects that do the same work, one after another in each round. The first of them is this project's.

    Args:
        title (`str`):
            What is measured.
        unit (`str`):
            The unit of the speed, or of the time if `is_time`.
        amount (`float`):
            How many of these units one run does. The time of a run is multiplied by it if `is_time`.
        subjects (`list[Subject]`):
            What is compared.
        is_time (`bool`, *optional*, defaults to `False`):
            Whether it is a time, of which less is better.
    """

    title: str
    unit: str
    amount: float
    subjects: list[Subject]
    is_time: bool = False

    def value(self, seconds: float) -> float:
        """The speed, or the time, of a run that took this long."""
        return self.amount * seconds if self.is_time else self.amount / seconds


# What every model of Transformers with an encoder of timm imports, and how users load this project's.
BASE_MODEL = "import torch, timm; from transformers import PreTrainedModel"
AUTO_MODEL = (
    "from transformers import AutoModel; "
    "AutoModel.from_pretrained('modeling_cola/cola-compact', trust_remote_code=True)"
)
SCRIPTS = ("run_pretraining", "run_embedding", "run_classification", "run_detection", "run_benchmark", "prepare_audio")

COMPARISONS = {
    "log_mel": Comparison(
        "Log-mel features, 32 clips of 10 s",
        "x real time",
        320,
        [
            Subject("COLAFeatureExtractor", "features", ("cola",)),
            Subject("ASTFeatureExtractor", "features", ("ASTFeatureExtractor",)),
            Subject("WhisperFeatureExtractor", "features", ("WhisperFeatureExtractor",)),
            Subject("ClapFeatureExtractor", "features", ("ClapFeatureExtractor",)),
        ],
    ),
    "embedding": Comparison(
        "Embedding, 32 clips of 10 s, features included",
        "x real time",
        320,
        [
            Subject("COLAModel, compact", "cola_embedding", ("compact",)),
            Subject("COLAModel, EfficientNet-B0", "cola_embedding", ("efficientnet_b0",)),
            Subject("ASTModel", "ast_embedding"),
            Subject("Wav2Vec2Model", "wav2vec2_embedding"),
        ],
    ),
    "latency": Comparison(
        "One clip of 1 s, from waveform to embedding",
        "ms",
        1000,
        [
            Subject("COLAModel, compact", "cola_embedding", ("compact", "1", "1")),
            Subject("COLAModel, EfficientNet-B0", "cola_embedding", ("efficientnet_b0", "1", "1")),
        ],
        is_time=True,
    ),
    "training_b0": Comparison(
        "Training step, EfficientNet-B0, 32 pairs",
        "segments/s",
        64,
        [
            Subject("run_pretraining.py", "training_step", ("paper",)),
            Subject("run_pretraining.py --torch_compile", "training_step", ("paper", "compiled")),
            Subject("timm and PyTorch in a plain loop", "plain_training_step"),
            Subject("Keras, as in the authors' code", "keras_training_step"),
        ],
    ),
    "training_best": Comparison(
        "Training step, --recipe best, 32 pairs",
        "segments/s",
        64,
        [
            Subject("with features and augmentation", "training_step", ("best", "features")),
            Subject("without", "training_step", ("best",)),
            Subject("without, with --torch_compile", "training_step", ("best", "compiled")),
        ],
    ),
    "reading": Comparison(
        "Reading two crops of 10 s of FLAC, 48 kHz, stereo, 24 bits, one core",
        "pairs/s",
        16,
        [Subject("random_segments", "segment_reading"), Subject("soundfile alone", "plain_reading")],
    ),
    "synthetic_pairs": Comparison(
        "Synthetic pairs of 0.96 s, one thread",
        "pairs/s",
        64,
        [Subject("SyntheticPairs", "synthetic_pairs")],
    ),
    "start": Comparison(
        "Start of a process",
        "s",
        1,
        [
            Subject("import modeling_cola", "python", ("-c", "import modeling_cola")),
            Subject("import torch, timm", "python", ("-c", "import torch, timm")),
            Subject("import torch, timm and PreTrainedModel", "python", ("-c", BASE_MODEL)),
            Subject("import feature_extraction", "python", ("-c", "import feature_extraction")),
            Subject("AutoModel with trust_remote_code", "python", ("-c", AUTO_MODEL)),
            *(Subject(f"{name}.py --help", "python", ("-m", f"run_scripts.{name}", "--help")) for name in SCRIPTS),
            Subject("first embedding", "python", ("-m", "tools.speed.workloads")),
        ],
        is_time=True,
    ),
}
