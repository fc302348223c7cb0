"""Checkpoints that Keras writes, of the network that the paper describes (extra `tf`)."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from feature_extraction import COLAFeatureExtractor
from model_helpers import log_mel
from modeling_cola import COLAForPreTraining, COLAModel
from run_scripts.convert_checkpoint import main


def contrastive_model(keras: Any, bilinear: bool) -> Any:
    """EfficientNet-B0, the projection head and the similarity of the paper, under the authors' names."""

    class Similarity(keras.layers.Layer):
        def build(self, shape):
            name = "bilinear_product_weight"
            self._w = self.add_weight(shape=(shape[-1], shape[-1]), initializer="random_normal", name=name)

        def call(self, anchors, positives):
            return anchors @ self._w @ keras.backend.transpose(positives)

    class ContrastiveModel(keras.Model):
        def __init__(self):
            super().__init__()
            network = keras.applications.EfficientNetB0(
                include_top=False, weights=None, input_shape=(None, 64, 1), pooling="max"
            )
            encoder = keras.Model(network.inputs, network.outputs, name="encoder")
            frames = keras.layers.Input((None, 64, 1))
            projections = keras.layers.Dense(512)(encoder(frames))
            if bilinear:
                projections = keras.layers.Activation("tanh")(keras.layers.LayerNormalization()(projections))
            self.embedding_model = keras.Model(frames, projections)
            self._similarity_layer = Similarity() if bilinear else None

        def call(self, frames, training=False):
            projections = self.embedding_model(frames, training=training)
            return self._similarity_layer(projections, projections) if bilinear else projections

    return ContrastiveModel()


def trained(keras: Any, bilinear: bool, num_steps: int, frames: np.ndarray) -> Any:
    model = contrastive_model(keras, bilinear)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.legacy.Adam(1e-3), loss)
    for layer in model.embedding_model.get_layer("encoder").layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.1  # so that its statistics are soon those of the frames
    for _ in range(3):
        model(frames, training=True)
    for _ in range(num_steps):
        model.train_on_batch(frames, np.arange(len(frames)))
    return model


@pytest.mark.extra
@pytest.mark.slow
@pytest.mark.parametrize("num_steps, bilinear", [(3, True), (0, False)])
def test_embeddings_are_those_of_keras(tmp_path: Path, num_steps: int, bilinear: bool):
    keras = pytest.importorskip("tf_keras", reason="needs the extra `tf`")
    frames = log_mel(4, 96)
    images = frames[..., None].numpy()
    reference = trained(keras, bilinear, num_steps, images)
    reference.save_weights(str(tmp_path / "ckpt_1"))
    main(["--checkpoint", str(tmp_path / "ckpt_1"), "--output_dir", str(tmp_path / "converted")])

    COLAFeatureExtractor.from_pretrained(tmp_path / "converted")
    with torch.no_grad():
        embeddings = COLAModel.from_pretrained(tmp_path / "converted")(frames).pooler_output.numpy()
        expected = reference.embedding_model.get_layer("encoder")(images, training=False).numpy()
        np.testing.assert_allclose(embeddings, expected, rtol=0, atol=1e-4)
        assert np.ptp(expected, axis=0).mean() > 0.1  # it is the frames that make the embedding
        if bilinear:
            outputs = COLAForPreTraining.from_pretrained(tmp_path / "converted")(frames, frames)
            projections = reference.embedding_model(images, training=False).numpy()
            np.testing.assert_allclose(outputs.anchor_embeds.numpy(), projections, rtol=0, atol=1e-4)
            np.testing.assert_allclose(outputs.logits.numpy(), reference(images).numpy(), rtol=0, atol=1e-3)
