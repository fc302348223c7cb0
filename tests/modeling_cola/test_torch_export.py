"""`torch.export` with named dimensions, of which a clip of one window is an ordinary case."""

import pytest
import torch
from torch.export import Dim
from torch.fx.experimental import _config as shape_config

from model_helpers import assert_same_outputs, build, encoders, log_mel


@encoders
@pytest.mark.parametrize("example", [(1, 96), (2, 200)])
def test_exports_with_named_dynamic_dimensions(encoder: str, example: tuple[int, int]):
    model = build(encoder=encoder)
    dimensions = {0: Dim("batch"), 1: Dim("frames", min=48)}
    inputs = (log_mel(*example), torch.ones(example, dtype=torch.long))
    # Without this, PyTorch takes sizes that are 1 in the example, or may become 1, for constants.
    with shape_config.patch(backed_size_oblivious=True):
        program = torch.export.export(model, inputs, dynamic_shapes=(dimensions, dimensions)).module()
    for batch_size, num_frames in ((1, 96), (2, 48), (3, 500)):
        values, mask = log_mel(batch_size, num_frames), torch.ones(batch_size, num_frames, dtype=torch.long)
        mask[-1, num_frames // 2 :] = 0
        with torch.no_grad():
            assert_same_outputs(program(values, mask), model(values, mask))
