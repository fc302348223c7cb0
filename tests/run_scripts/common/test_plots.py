"""The plots that the jobs draw."""

from pathlib import Path

import matplotlib.image
import numpy as np

from run_scripts.common import plots


def is_drawn(path: Path) -> bool:
    return matplotlib.image.imread(path)[..., :3].std() > 0.02


def test_pictures_are_drawn(tmp_path: Path):
    rng = np.random.default_rng(0)
    history = [{"step": s, "loss": 1 / s, "accuracy": 0.5, "validation_loss": 1.0} for s in (1, 2, 3)]
    plots.plot_training_curves(history, tmp_path / "curves.png", {"loss": np.log(8), "accuracy": 1 / 8})
    plots.plot_training_curves([{"step": s, "loss": 1 / s} for s in (1, 2, 3)], tmp_path / "loss.png", {})
    plots.plot_similarity_matrix(rng.standard_normal((8, 8)), tmp_path / "similarity.png")
    vectors = rng.standard_normal((20, 5))
    plots.plot_embedding_map(vectors, tmp_path / "map.png", ["a", "b"] * 10, pairs=True, title="map")
    plots.plot_embedding_map(vectors, tmp_path / "plain.png")
    plots.plot_confusion_matrix(np.array([[3, 1], [0, 0]]), ["a", "b"], tmp_path / "confusion.png")
    plots.plot_accuracy_bars({"task": {"A": 50.0, "B": 60.0}}, tmp_path / "bars.png")
    drawn = {path.stem: is_drawn(path) for path in tmp_path.glob("*.png")}
    assert len(drawn) == 7 and all(drawn.values()), drawn
