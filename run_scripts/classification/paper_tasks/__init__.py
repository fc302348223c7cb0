"""The paper's nine downstream tasks, in the order of its table."""

from run_scripts.classification.paper_tasks.base import Task
from run_scripts.classification.paper_tasks.dcase_birds import DCASE2018_BIRDS
from run_scripts.classification.paper_tasks.librispeech import LIBRISPEECH_SPEAKER
from run_scripts.classification.paper_tasks.musan import MUSAN
from run_scripts.classification.paper_tasks.nsynth import NSYNTH
from run_scripts.classification.paper_tasks.speech_commands import SPEECH_COMMANDS_V1, SPEECH_COMMANDS_V2
from run_scripts.classification.paper_tasks.tut_urban import TUT_URBAN_2018
from run_scripts.classification.paper_tasks.voxceleb import VOXCELEB1
from run_scripts.classification.paper_tasks.voxforge import VOXFORGE


TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        LIBRISPEECH_SPEAKER,
        SPEECH_COMMANDS_V1,
        SPEECH_COMMANDS_V2,
        TUT_URBAN_2018,
        VOXCELEB1,
        DCASE2018_BIRDS,
        MUSAN,
        VOXFORGE,
        NSYNTH,
    )
}

__all__ = ["TASKS", "Task"]
