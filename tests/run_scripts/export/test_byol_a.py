from pathlib import Path

import pytest
import torch
from torch import nn

from model_helpers import lived_in
from modeling_cola import COLAModel
from run_scripts.convert_checkpoint import main


class Reference(nn.Module):
    """The network of BYOL-A's paper: bands and channels of each time step pass two dense layers."""

    def __init__(self, channels: int = 8, size: int = 24):
        super().__init__()
        blocks = []
        for in_channels in (1, channels, channels):
            blocks += [nn.Conv2d(in_channels, channels, 3, padding=1), nn.BatchNorm2d(channels)]
            blocks += [nn.ReLU(), nn.MaxPool2d(2)]
        self.features = nn.Sequential(*blocks)
        self.fc = nn.Sequential(
            nn.Linear(channels * 8, size), nn.ReLU(), nn.Dropout(), nn.Linear(size, size), nn.ReLU()
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Embeds images `[N, 1, bands, frames]`."""
        steps = self.features(x).permute(0, 3, 2, 1).flatten(2)
        h = self.fc(steps)
        return h.amax(1) + h.mean(1)


@pytest.mark.parametrize("prefix", ["", "state_dict"])
def test_embeddings_are_those_of_the_network(tmp_path: Path, prefix: str):
    reference = lived_in(Reference())
    state = reference.state_dict()
    if prefix:
        state = {"state_dict": {f"online.net.{name}": value for name, value in state.items()}}
    torch.save(state, tmp_path / "weights.pth")
    main(["--checkpoint", str(tmp_path / "weights.pth"), "--output_dir", str(tmp_path / "converted")])

    model = COLAModel.from_pretrained(tmp_path / "converted")
    frames = torch.randn(3, 96, 64)
    with torch.no_grad():
        expected = reference(frames.transpose(1, 2)[:, None])
        embeddings = model(frames).pooler_output
    assert expected.std() > 0.1
    torch.testing.assert_close(embeddings, expected, rtol=0, atol=1e-5)


def test_other_weights_are_an_error_that_names_what_is_missing(tmp_path: Path):
    torch.save(nn.Linear(2, 2).state_dict(), tmp_path / "weights.pth")
    with pytest.raises(ValueError, match=r"weights.pth does not have the layout AudioNTT2020: it has no 'features.0"):
        main(["--checkpoint", str(tmp_path / "weights.pth"), "--output_dir", str(tmp_path / "converted")])


def test_a_missing_file_is_an_error_that_names_both_kinds(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match="neither a file .*ckpt_1 nor a file .*ckpt_1.index"):
        main(["--checkpoint", str(tmp_path / "ckpt_1"), "--output_dir", str(tmp_path / "converted")])


def test_weights_of_several_networks_are_an_error(tmp_path: Path):
    state = Reference().state_dict()
    both = {f"{network}.{name}": value for network in ("online", "target") for name, value in state.items()}
    torch.save(both, tmp_path / "weights.pth")
    with pytest.raises(ValueError, match="several networks, such as online.features.0.weight and target.features.0.w"):
        main(["--checkpoint", str(tmp_path / "weights.pth"), "--output_dir", str(tmp_path / "converted")])
