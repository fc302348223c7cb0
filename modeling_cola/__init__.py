from transformers import AutoConfig, AutoModel, AutoModelForAudioClassification, AutoModelForPreTraining

from .configuration_cola import COLAConfig
from .modeling_cola import (
    SENTENCE_TRANSFORMERS_FILES,
    COLAForAudioClassification,
    COLAForPreTraining,
    COLAForPreTrainingOutput,
    COLAModel,
    COLAModelOutput,
    COLAPreTrainedModel,
    contrastive_loss,
    decorrelation_loss,
)


AutoConfig.register("cola", COLAConfig)
AutoModel.register(COLAConfig, COLAModel)
AutoModelForPreTraining.register(COLAConfig, COLAForPreTraining)
AutoModelForAudioClassification.register(COLAConfig, COLAForAudioClassification)

# This makes `save_pretrained` copy the code to the checkpoint, so that it loads with `trust_remote_code=True`.
COLAConfig.register_for_auto_class()
COLAModel.register_for_auto_class("AutoModel")
COLAForPreTraining.register_for_auto_class("AutoModelForPreTraining")
COLAForAudioClassification.register_for_auto_class("AutoModelForAudioClassification")

__all__ = [
    "COLAConfig",
    "COLAForAudioClassification",
    "COLAForPreTraining",
    "COLAForPreTrainingOutput",
    "COLAModel",
    "COLAModelOutput",
    "COLAPreTrainedModel",
    "SENTENCE_TRANSFORMERS_FILES",
    "contrastive_loss",
    "decorrelation_loss",
]
