"""LoRA adapters by PEFT (extra `peft`)."""

from pathlib import Path

import pytest
import torch

from model_helpers import encoders, log_mel, tiny_config
from modeling_cola import COLAForAudioClassification


pytestmark = pytest.mark.extra
peft = pytest.importorskip("peft", reason="needs the extra `peft`")


@encoders
@pytest.mark.parametrize("is_frozen", [True, False])
def test_adapters_reload_as_the_same_model_if_batch_norm_is_frozen(tmp_path: Path, encoder: str, is_frozen: bool):
    COLAForAudioClassification(tiny_config(encoder, pooling_dropout=0.0)).save_pretrained(tmp_path / "base")

    base = COLAForAudioClassification.from_pretrained(tmp_path / "base")
    convolutions = [name for name, module in base.named_modules() if isinstance(module, torch.nn.Conv2d)]
    targets = [name for name in convolutions if base.get_submodule(name).groups == 1]
    config = peft.LoraConfig(r=2, target_modules=targets, modules_to_save=["classifier"])
    model = peft.get_peft_model(base, config)
    if is_frozen:
        base.freeze_batch_norm()
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=0.01)
    model.train()
    for _ in range(5):
        model(input_values=log_mel(4, 96), labels=torch.tensor([0, 1, 2, 0])).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    model.save_pretrained(tmp_path / "adapter")

    again = COLAForAudioClassification.from_pretrained(tmp_path / "base")
    again = peft.PeftModel.from_pretrained(again, tmp_path / "adapter").eval()
    x = log_mel(3, 200)
    with torch.no_grad():
        logits, reloaded = model.eval()(x).logits, again(x).logits
        before = COLAForAudioClassification.from_pretrained(tmp_path / "base").eval()(x).logits
    assert torch.allclose(reloaded, logits, atol=1e-5) == is_frozen
    assert not torch.allclose(logits, before, atol=1e-3)
