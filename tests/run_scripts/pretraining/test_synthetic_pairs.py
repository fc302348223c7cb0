"""Pairs of synthetic sounds in pre-training: beside recordings, and alone."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from huggingface_hub import ModelCard

from feature_extraction import COLAFeatureExtractor
from helpers import pretraining_arguments, run_processes
from modeling_cola import COLAForPreTraining
from run_scripts import run_pretraining
from run_scripts.common.errors import UserError
from run_scripts.pretraining.synthetic_pairs import SyntheticPairs, no_recordings


ROOT = Path(__file__).parents[3]
CPU = torch.device("cpu")
NUM_SAMPLES = 15600


def pairs(num_pairs: int = 4, distance: float = 0.25, stream: int = 1, state: str = "") -> SyntheticPairs:
    return SyntheticPairs(num_pairs, NUM_SAMPLES, 16000, distance, CPU, 0, stream, state)


def synthetic_arguments(output_dir: Path, *more: str) -> list[str]:
    """The command line of a short run without a data set."""
    return pretraining_arguments(Path("unused"), output_dir, "--validation_clips", "16", *more)[2:]


def history(folder: Path) -> list[dict[str, float]]:
    """What an interruption must not change."""
    entries = json.loads((folder / "training_state.json").read_text())["history"]
    return [
        {key: value for key, value in entry.items() if "second" not in key and "wait" not in key} for entry in entries
    ]


def progress(folder: Path, step: int, rank: int = 0) -> dict:
    return json.loads((folder / f"checkpoint-{step}" / f"progress_{rank}.json").read_text())


def assert_same_run(folder: Path, other: Path) -> None:
    assert history(folder) == history(other)
    models = [COLAForPreTraining.from_pretrained(path).state_dict().values() for path in (folder, other)]
    assert all(torch.equal(a, b) for a, b in zip(*models))


def test_every_stream_has_sounds_of_its_own():
    first, second = pairs(stream=0).draw(), pairs(stream=1).draw()
    assert torch.equal(first, pairs(stream=0).draw())
    assert ((first - second).abs().amax(1) > 1e-3).all()


def test_a_stream_goes_on_from_its_state():
    source = pairs()
    first, state = source.draw(), source.state
    second = source.draw()
    assert not torch.equal(first, second)
    assert torch.equal(pairs(state=state).draw(), second)


def test_the_positive_is_nearer_than_other_sounds():
    extractor = COLAFeatureExtractor()
    sounds = pairs(64).draw()
    spectra = extractor.log_mel(sounds, torch.full((128,), NUM_SAMPLES))[0].mean(1)
    gaps = torch.cdist(*spectra.chunk(2))
    assert gaps.diag().mean() < 0.6 * gaps.mean()


def test_synthetic_pairs_follow_the_recorded_ones():
    recorded = torch.ones(6, 12000)
    recorded[3:] = 2
    batch = {"waveforms": recorded, "lengths": torch.tensor([12000] * 6), "gaps": torch.full((3,), 0.5)}
    joined = pairs(2).join(batch)
    sounds = pairs(2).draw()
    assert joined["waveforms"].shape == (10, NUM_SAMPLES)
    expected = [*recorded[:3], *sounds[:2], *recorded[3:], *sounds[2:]]
    for row, waveform, length in zip(joined["waveforms"], expected, joined["lengths"]):
        assert length == len(waveform)
        assert torch.equal(row[:length], waveform) and not row[length:].any()
    assert joined["gaps"].isnan().tolist() == [False] * 3 + [True] * 2
    alone = pairs(2).join(no_recordings(NUM_SAMPLES))
    assert torch.equal(alone["waveforms"], sounds) and len(alone["gaps"]) == 2


@pytest.mark.parametrize("objective", ["contrastive", "triplet", "audio2vec_cbow"])
def test_pretrains_without_any_data(tmp_path: Path, objective: str):
    run_pretraining.main(synthetic_arguments(tmp_path, "--objective", objective))
    entries = json.loads((tmp_path / "training_state.json").read_text())["history"]
    assert [entry["step"] for entry in entries if "validation_loss" in entry] == [2, 4]
    state = progress(tmp_path, 4)
    assert state["synthesizer"] and state["num_clips"] == 0 and not state["readers"]
    assert {"training_curves.png", "embedding_map.png"} <= {path.name for path in tmp_path.iterdir()}


def test_the_card_says_what_was_synthetic(tones: Path, tmp_path: Path):
    run_pretraining.main(synthetic_arguments(tmp_path / "alone"))
    card = (tmp_path / "alone" / "README.md").read_text()
    assert "# COLA pre-trained on synthetic sounds" in card
    assert "| synthetic_share | 1.0 |" in card and "| synthetic_distance | 0.25 |" in card
    assert "dataset_name" not in card
    assert ModelCard(card).data.datasets is None
    run_pretraining.main(pretraining_arguments(tones, tmp_path / "both", "--synthetic_share", "0.5"))
    card = (tmp_path / "both" / "README.md").read_text()
    assert f"# COLA pre-trained on {tones.name} and synthetic sounds" in card and "| synthetic_share | 0.5 |" in card
    run_pretraining.main(pretraining_arguments(tones, tmp_path / "recorded"))
    assert "and synthetic sounds" not in (tmp_path / "recorded" / "README.md").read_text()


def test_a_share_of_each_batch_is_synthetic(tones: Path, tmp_path: Path, capfd: pytest.CaptureFixture):
    run_pretraining.main(pretraining_arguments(tones, tmp_path, "--synthetic_share", "0.75"))
    state = progress(tmp_path, 4)
    assert state["num_clips"] == 4 * 2 and state["synthesizer"]
    assert "6 of 8 pairs synthetic" in capfd.readouterr().err


def test_recordings_alone_have_no_synthesizer(pretrained: Path):
    assert progress(pretrained, 4)["synthesizer"] == ""


@pytest.mark.parametrize("share", [None, "0.5"])
def test_a_resumed_run_equals_an_uninterrupted_one(tones: Path, tmp_path: Path, share: str | None):
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    more = ("--max_steps", "6", "--save_steps", "3", "--save_total_limit", "5", "--logging_steps", "2")

    def arguments(folder: Path, *last: str) -> list[str]:
        if share is None:
            return synthetic_arguments(folder, *more, *last)
        return pretraining_arguments(tones, folder, *more, "--synthetic_share", share, *last)

    run_pretraining.main(arguments(whole))
    shutil.copytree(whole / "checkpoint-3", resumed / "checkpoint-3")
    run_pretraining.main(arguments(resumed, "--resume_from_checkpoint"))
    assert_same_run(whole, resumed)


@pytest.mark.slow
def test_every_process_draws_sounds_of_its_own(tmp_path: Path):
    process = run_processes(ROOT / "run_scripts" / "run_pretraining.py", synthetic_arguments(tmp_path))
    assert process.returncode == 0, process.stderr
    states = [progress(tmp_path, 4, rank)["synthesizer"] for rank in range(2)]
    assert states[0] and states[1] and states[0] != states[1]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--synthetic_share", "1.5"), "--synthetic_share must be at most 1, got 1.5"),
        (("--synthetic_distance", "-0.1"), "--synthetic_distance must be at least 0, got -0.1"),
        (
            ("--synthetic_share", "1"),
            "--synthetic_share 1.0 makes 8 of 8 pairs synthetic: .* leave out --dataset_name",
        ),
        (("--synthetic_share", "0.01"), "--synthetic_share 0.01 makes 0 of 8 pairs synthetic"),
        (("--synthetic_share", "0.5", "--objective", "temporal_gap"), "--objective temporal_gap needs recordings"),
    ],
)
def test_bad_arguments_are_named(tones: Path, tmp_path: Path, more: tuple[str, ...], message: str):
    with pytest.raises(UserError, match=message):
        run_pretraining.main(pretraining_arguments(tones, tmp_path, *more))


def test_the_quickstart_does_not_use_the_synthesizer():
    """Its classes would be told apart by what pre-training has seen of them."""
    program = "import sys, tools.synthesis.corpus; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "tools.synthesis.families" in loaded.stdout
    assert "run_scripts.pretraining" not in loaded.stdout
