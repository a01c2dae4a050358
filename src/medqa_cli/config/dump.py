"""Write configurations as YAML: a new one for a machine, or a loaded one with the source of each value."""

import importlib.util
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, is_dataclass
from importlib.resources import files
from typing import Any

import yaml

from medqa_cli.config.load import Loaded
from medqa_cli.config.schema import KEYS, is_nullable
from medqa_cli.config.yaml_loader import is_text_everywhere
from medqa_cli.resources import load_yaml

# A longer value pushes its own comment to the right, not everybody's.
_COMMENT_COLUMN_LIMIT = 60
_PLAIN_TEXT = re.compile(r"[A-Za-z_./][A-Za-z0-9_./-]*")
# The lines of a preset that `medqa config init` fills in, with their comments, and the column of those.
_RUN_LINE = re.compile(r"^run_dir: .*# (.*)$", re.MULTILINE)
_DATA_LINE = re.compile(r"^  dir: .*# (.*)$", re.MULTILINE)
_SOURCE_LINE = re.compile(r"^  # source: .*# (your table).*$", re.MULTILINE)
_PRESET_COMMENT_COLUMN = 42
_MODEL_LINE = re.compile(r"^  name_or_path: .*$", re.MULTILINE)
# What fits a GPU of this size is small enough for a CPU to be tried on.
_CPU_GB = 3.8


@dataclass(frozen=True)
class BaseModel:
    """A base model to start from; ``resources/base_models.yaml`` has all of them, and says what the fields mean."""

    name: str
    parameters: str
    license: str
    gated: bool
    least_gb: float
    shape: dict[str, Any]

    @property
    def terms(self) -> str:
        """Its size, its license, and whether that has to be accepted first."""
        return f"{self.parameters}, {self.license}{', gated' if self.gated else ''}"


@dataclass(frozen=True)
class Preset:
    """A config to start from; ``resources/presets.yaml`` has all of them, and says what the fields mean."""

    name: str
    below_gb: float
    why: list[str]
    needs: str = ""
    package: str = ""

    @property
    def text(self) -> str:
        """The file in the package."""
        return files("medqa_cli.resources").joinpath(f"presets/{self.name}.yaml").read_text(encoding="utf-8")

    @property
    def is_ready(self) -> bool:
        """Whether nothing has to be done before its model can be used, as far as one sees."""
        return not self.needs or (self.package != "" and importlib.util.find_spec(self.package) is not None)

    @property
    def model(self) -> str:
        """``model.name_or_path``."""
        return str(yaml.safe_load(self.text)["model"]["name_or_path"])

    @property
    def reasons(self) -> list[str]:
        """Why it was chosen, and on how small a GPU its model can be trained."""
        least = [model.least_gb for model in _base_models() if model.name == self.model]
        return [*self.why, *(f"by medqa's plan a GPU with {gb:g} GB is enough for it" for gb in least)]

    def filled_in(
        self, machine: str, source: str | None = None, others: Sequence[BaseModel] = (), name: str = "medqa"
    ) -> str:
        """Return the file to write.

        Args:
            machine: what it was chosen for, in words.
            source: ``data.source``; None: a commented line shows where it goes.
            others: models that stand as comments behind the one that is chosen.
            name: of the run and of the data, so that two configs in a folder do not write over each other.
        """
        text = self.text.replace("MACHINE", _in_a_comment(machine), 1)
        lines = [
            f"{f'  # name_or_path: {other.name}':{_PRESET_COMMENT_COLUMN + 12}}  # {other.terms}" for other in others
        ]
        text = _MODEL_LINE.sub(lambda line: "\n".join([line[0], *lines]), text, count=1)
        for line, key, value in ((_RUN_LINE, "run_dir", f"runs/{name}"), (_DATA_LINE, "  dir", f"data/{name}")):
            text = _with_value(text, line, f"{key}: {written(value)}")
        return (
            text if source is None else _with_value(text, _SOURCE_LINE, f"  source: {written(source, nullable=True)}")
        )


def _with_value(text: str, line: re.Pattern[str], key_and_value: str) -> str:
    """Return a preset with another value in a line, whose comment is the group of the pattern."""
    return line.sub(lambda found: f"{key_and_value:{_PRESET_COMMENT_COLUMN}}  # {found[1]}", text, count=1)


def preset_for(gpu_memory_gb: float | None) -> Preset:
    """Return the preset for a GPU's memory in GB of 10**9 bytes; None: there is no GPU."""
    memory = -1.0 if gpu_memory_gb is None else gpu_memory_gb
    return next(preset for fields in load_yaml("presets") if memory < (preset := Preset(**fields)).below_gb)


def other_models(chosen: str, gpu_memory_gb: float | None) -> list[BaseModel]:
    """Return the models beside the chosen one that can be trained there, free ones first; None: without a GPU."""
    memory = _CPU_GB if gpu_memory_gb is None else gpu_memory_gb
    return [model for model in _base_models() if model.least_gb <= memory and model.name != chosen]


def _base_models() -> list[BaseModel]:
    return [BaseModel(**fields) for fields in load_yaml("base_models")]


def resolved_yaml(loaded: Loaded) -> str:
    """Return the configuration as YAML that loads to the same values, with the source of each in a comment."""
    rows: list[tuple[str, str]] = []
    values = _plain(loaded.config)
    current = ""
    for dotted in KEYS:
        section, _, name = dotted.rpartition(".")
        if section != current:
            rows += [("", ""), (f"{section}:", "")]
            current = section
        value = values[section][name] if section else values[name]
        text = f"{'  ' if section else ''}{name}: {written(value, is_nullable(dotted))}"
        rows.append((text, _in_a_comment(loaded.sources[dotted])))
    column = max(len(text) for text, source in rows if source and len(text) <= _COMMENT_COLUMN_LIMIT)
    lines = [f"{text:{column}}  # {source}" if source else text for text, source in rows]
    return "\n".join(lines) + "\n"


def resolved_dict(loaded: Loaded) -> dict[str, Any]:
    """Return ``{"config": nested values, "sources": {dotted key: source}}`` with nothing but what JSON knows."""
    return {"config": _plain(loaded.config), "sources": dict(loaded.sources)}


def _in_a_comment(text: str) -> str:
    """Return a text, such as the name of a file, without what would end the line and the comment with it."""
    return "".join(character if character.isprintable() else "?" for character in text)


def _plain(value: Any) -> Any:
    """Return a value in what JSON knows."""
    if is_dataclass(value) and not isinstance(value, type):
        return _plain(asdict(value))
    if isinstance(value, dict):
        return {name: _plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return value


def written(value: Any, nullable: bool = False) -> str:
    """Return a value as YAML on one line, as every YAML reader takes it; ``nullable``: its key takes null as well."""
    if isinstance(value, str) and nullable and value.lower() == "none":
        return f'"{value}"'
    dumped = yaml.dump(
        _plain(value), Dumper=_Dumper, default_flow_style=True, width=float("inf"), allow_unicode=True, sort_keys=False
    )
    return str(dumped).removesuffix("...\n").rstrip("\n")


class _Dumper(yaml.SafeDumper):
    """SafeDumper that quotes every text that any YAML reader takes for something else."""

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def represent_str(self, data: str) -> yaml.ScalarNode:
        plain = _PLAIN_TEXT.fullmatch(data) and is_text_everywhere(data)
        return self.represent_scalar("tag:yaml.org,2002:str", data, style=None if plain else '"')


_Dumper.add_representer(str, _Dumper.represent_str)
