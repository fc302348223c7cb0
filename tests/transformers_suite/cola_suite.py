"""
COLA under Transformers' own common tests.

`test_transformers_suite.py` fetches them, unpacks them as the package `transformers_tests`, and runs this file in a
process of its own.
"""

import unittest

import numpy as np
import torch
from transformers import AutoModelForSequenceClassification
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES,
    MODEL_MAPPING_NAMES,
)
from transformers_tests.test_configuration_common import ConfigTester
from transformers_tests.test_modeling_common import ModelTesterMixin
from transformers_tests.test_sequence_feature_extraction_common import SequenceFeatureExtractionTestMixin

from feature_extraction import COLAFeatureExtractor
from modeling_cola import COLAConfig, COLAForAudioClassification, COLAForPreTraining, COLAModel


# The mixins look up in these tables which classes have no loss and which take class indices as labels.
MODEL_MAPPING_NAMES["cola"] = "COLAModel"
MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES["cola"] = "COLAForAudioClassification"
AutoModelForSequenceClassification.register(COLAConfig, COLAForAudioClassification)


class COLAModelTester:
    """Small configurations and inputs, under the names that the mixins ask for."""

    is_training = True
    num_hidden_layers = 2
    batch_size = 4
    num_frames = 200
    # The mixins compare these with the last two dimensions of the first hidden state: frames and bands here.
    seq_length = 48
    hidden_size = 32

    def __init__(self, encoder: str, num_stages: int):
        self.encoder = encoder
        self.expected_num_hidden_layers = num_stages

    def get_config(self) -> COLAConfig:
        tiny = {"compact_channels": 8, "pooling_hidden_size": 16, "hidden_size": 88, "projection_size": 16}
        return COLAConfig(encoder=self.encoder, pooling_dropout=0.0, **tiny)

    def prepare_config_and_inputs_for_common(self) -> tuple[COLAConfig, dict[str, torch.Tensor]]:
        return self.get_config(), {"input_values": torch.randn(self.batch_size, self.num_frames, 64)}

    def prepare_config_and_inputs_for_model_class(self, model_class: type) -> tuple[COLAConfig, dict]:
        """Only asked for by the test that compares the first rows of a batch with a batch of one."""
        config, inputs = self.prepare_config_and_inputs_for_common()
        # The hidden states of all anchors come before those of all positives, so their first rows are not comparable.
        config.output_hidden_states = model_class is not COLAForPreTraining
        return config, inputs


class COLAModelTests(ModelTesterMixin):
    all_model_classes = (COLAModel, COLAForPreTraining, COLAForAudioClassification)
    has_attentions = False
    test_resize_embeddings = False
    test_can_init_all_missing_weights_before_2023 = True

    def _prepare_for_class(self, inputs_dict, model_class, return_labels=False):
        inputs = super()._prepare_for_class(inputs_dict, model_class, return_labels=return_labels)
        if model_class is COLAForPreTraining:
            inputs["positive_values"] = inputs["input_values"].flip(-1)
        return inputs

    @unittest.skip("COLA reads log-mel frames: it has no embeddings of tokens")
    def test_model_get_set_embeddings(self):
        pass

    @unittest.skip("it changes the size of a vocabulary, which COLA does not have")
    def test_load_with_mismatched_shapes(self):
        pass


class CompactModelTest(COLAModelTests, unittest.TestCase):
    def setUp(self):
        self.model_tester = COLAModelTester("compact", num_stages=3)


class TimmModelTest(COLAModelTests, unittest.TestCase):
    def setUp(self):
        self.model_tester = COLAModelTester("test_efficientnet", num_stages=5)

    @unittest.skip("it looks for a GradientCheckpointingLayer, and timm's networks checkpoint themselves without one")
    def test_gradient_checkpointing_enable_disable(self):
        pass

    test_training_gradient_checkpointing = test_gradient_checkpointing_enable_disable
    test_training_gradient_checkpointing_use_reentrant_false = test_gradient_checkpointing_enable_disable
    test_training_gradient_checkpointing_use_reentrant_true = test_gradient_checkpointing_enable_disable


class COLAConfigTest(unittest.TestCase):
    def test_config(self):
        # The mixin's default properties include layers and attention heads.
        tester = ConfigTester(
            self, config_class=COLAConfig, has_text_modality=False, common_properties=["hidden_size"], window_hop=48
        )
        tester.run_common_tests()


class COLAFeatureExtractionTester:
    batch_size = 7
    min_seq_length = 40
    max_seq_length = 200
    seq_length_diff = (max_seq_length - min_seq_length) // (batch_size - 1)
    feature_size = 8

    def prepare_feat_extract_dict(self) -> dict:
        return {"feature_size": self.feature_size, "padding_value": 0.0, "sampling_rate": 16000}

    def prepare_inputs_for_common(self, equal_length: bool = False, numpify: bool = False) -> list:
        lengths = range(self.min_seq_length, self.max_seq_length, self.seq_length_diff)
        lengths = [self.max_seq_length] * self.batch_size if equal_length else lengths
        clips = [np.random.default_rng(length).standard_normal((length, self.feature_size)) for length in lengths]
        return clips if numpify else [clip.tolist() for clip in clips]


class COLAFeatureExtractionTest(SequenceFeatureExtractionTestMixin, unittest.TestCase):
    feature_extraction_class = COLAFeatureExtractor
    feat_extract_tester = COLAFeatureExtractionTester()
