"""The configuration: its sections, and reading it from YAML and ``--set``.

Does not touch the models or the data that a configuration names.
"""

from medqa_cli.config.reader import Loaded, load
from medqa_cli.config.sections import (
    SECTIONS,
    Config,
    DataConfig,
    EvalConfig,
    GenerateConfig,
    LoraConfig,
    ModelConfig,
    MultipleChoiceSet,
    PromptConfig,
    TrainConfig,
)

__all__ = [
    "SECTIONS",
    "Config",
    "DataConfig",
    "EvalConfig",
    "GenerateConfig",
    "Loaded",
    "LoraConfig",
    "ModelConfig",
    "MultipleChoiceSet",
    "PromptConfig",
    "TrainConfig",
    "load",
]
