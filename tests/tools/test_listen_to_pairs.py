"""Pairs to look at and to listen to."""

from pathlib import Path

import matplotlib.image
import numpy as np
import soundfile

from tools import listen_to_pairs


def test_writes_pairs_and_their_picture(tmp_path: Path):
    listen_to_pairs.main(["--output_dir", str(tmp_path), "--num_pairs", "2", "--distances", "0.25", "1"])
    names = {path.name for path in tmp_path.iterdir()}
    sounds = {f"pair_{number}_d{distance}.wav" for number in (0, 1) for distance in ("0.25", "1")}
    assert names == sounds | {"synthetic_pairs.png"}
    near, far = (soundfile.read(tmp_path / f"pair_0_d{distance}.wav")[0] for distance in ("0.25", "1"))
    assert len(near) == 2 * 15600 + 8000 and not near[15600:23600].any()
    assert np.array_equal(near[:15600], far[:15600]) and not np.array_equal(near[23600:], far[23600:])
    assert matplotlib.image.imread(tmp_path / "synthetic_pairs.png").std() > 0.05
