"""The methods that the benchmark compares."""

from pathlib import Path

from feature_extraction import COLAFeatureExtractor
from modeling_cola import COLAConfig, COLAModel
from run_scripts.benchmark.methods import list_methods


def test_each_kind_of_encoder_has_random_weights_of_its_own(pretrained: Path, tmp_path: Path):
    start = {"encoder": "mobilenetv4_conv_small", "pooling": "mean"}
    configs = {
        "a": COLAConfig(encoder="compact", pooling="statistics"),
        "b": COLAConfig(encoder="compact", pooling="statistics", zero_init_residual=True),  # it has no such blocks
        "c": COLAConfig(encoder="compact", pooling="mean"),
        "d": COLAConfig(**start),
        "e": COLAConfig(**start, zero_init_residual=True),
        "f": COLAConfig(encoder="compact", pooling="mean", window_size=48),
        "g": COLAConfig(encoder="compact", pooling="dense", hidden_size=64),
        "h": COLAConfig(encoder="compact", pooling="dense", hidden_size=64, window_chunk_size=2),  # the same as g
    }
    for name, config in configs.items():
        COLAModel(config).save_pretrained(tmp_path / name)
        COLAFeatureExtractor().save_pretrained(tmp_path / name)
    checkpoints = [str(pretrained), *(str(tmp_path / name) for name in configs)]
    methods = list_methods(checkpoints, ["random"], 1)
    names = [pretrained.name, "a", "c", "d", "e", "f", "g"]  # but for b, whose random weights are those of a, and h
    assert [method.name for method in methods] == [f"{name}, random weights" for name in names]
    assert len({method.encoder_hash for method in methods}) == 7
