"""Gradients, and gradient checkpointing."""

import copy

import pytest
import torch
from transformers.utils import logging

from model_helpers import batch_for, build, classes, encoders, loss_of, tiny_config
from modeling_cola import COLAForPreTraining, COLAModel


pytestmark = pytest.mark.filterwarnings("ignore:.*gradient_checkpointing:FutureWarning")


@encoders
@pytest.mark.parametrize("similarity", ["bilinear", "cosine"])
def test_every_parameter_gets_a_gradient(encoder, similarity):
    model = build(COLAForPreTraining, encoder, similarity=similarity).train()
    model(**batch_for(COLAForPreTraining, 4)).loss.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all() and parameter.grad.any(), name


@pytest.mark.parametrize("encoder", ["compact", "test_efficientnet", "test_convnext", "test_resnet"])
@pytest.mark.parametrize("training", [True, False])
@classes
def test_hidden_states_get_gradients(cls, encoder, training):
    model = build(cls, encoder).train(training)
    model.config.window_chunk_size = 1
    outputs = model(**batch_for(cls, num_frames=300), output_hidden_states=True)
    for stage in outputs.hidden_states:
        stage.retain_grad()
    loss_of(model, outputs).backward()
    assert all(stage.grad.any() for stage in outputs.hidden_states)


@encoders
@classes
@pytest.mark.parametrize("use_reentrant", [False, True])
def test_gradient_checkpointing_changes_no_gradient(cls, encoder, use_reentrant):
    results = []
    for enable in (False, True):
        torch.manual_seed(0)
        model = build(cls, encoder, pooling_dropout=0.0).train()
        if enable:
            model.gradient_checkpointing_enable({"use_reentrant": use_reentrant})
        loss = loss_of(model, model(**batch_for(cls, 4)))
        loss.backward()
        results.append((loss, {name: p.grad for name, p in model.named_parameters()}))
    (loss, grads), (checkpointed_loss, checkpointed_grads) = results
    torch.testing.assert_close(checkpointed_loss, loss)
    torch.testing.assert_close(checkpointed_grads, grads)


@encoders
@classes
def test_gradient_checkpointing_saves_activations(cls, encoder):
    model = build(cls, encoder).train()
    inputs = batch_for(cls)

    def saved() -> int:
        sizes = []
        with torch.autograd.graph.saved_tensors_hooks(lambda x: sizes.append(x.numel()) or x, lambda x: x):
            model(**inputs)
        return sum(sizes)

    plain = saved()
    model.gradient_checkpointing_enable()
    assert model.is_gradient_checkpointing
    assert saved() < 0.6 * plain
    model.gradient_checkpointing_disable()
    assert not model.is_gradient_checkpointing
    assert saved() == plain


@pytest.mark.parametrize("encoder", ["dla34", "vgg11"])
@classes
def test_encoder_without_gradient_checkpointing_is_an_error_that_names_it(cls, encoder):
    with torch.device("meta"):
        model = cls(tiny_config(encoder))
    with pytest.raises(ValueError, match=f"gradient checkpointing for the encoder '{encoder}'"):
        model.gradient_checkpointing_enable()
    assert not model.is_gradient_checkpointing
    model.gradient_checkpointing_disable()  # is no error


def test_training_mode_without_gradients_is_reported(caplog):
    """As in a pipeline with the model that the Trainer leaves behind."""
    logger = logging.get_logger("modeling_cola.modeling_cola")
    logger.warning_once.cache_clear()
    logger.propagate = True
    caplog.set_level("WARNING")
    model, inputs = build(), batch_for(COLAModel)
    with torch.no_grad():
        model(**inputs)
    model.train()(**inputs)
    assert "training mode" not in caplog.text
    with torch.no_grad():
        model(**inputs)
    assert "call `model.eval()` first" in caplog.text


@classes
def test_replicas_of_data_parallel_run(cls):
    """`DataParallel` copies a model without its parameters, which are attributes of the copy."""
    model, inputs = build(cls), batch_for(cls)
    replica = copy.deepcopy(model)
    for module in replica.modules():
        parameters, module._parameters = module._parameters, {}
        for name, parameter in parameters.items():
            vars(module)[name] = parameter
    assert not list(replica.parameters())
    torch.testing.assert_close(replica(**inputs).to_tuple(), model(**inputs).to_tuple())
