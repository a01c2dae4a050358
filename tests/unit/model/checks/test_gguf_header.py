"""The table of GGUF's types is that of the package ``gguf``."""

from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

from medqa_cli.model.checks.gguf_header import GGML_TYPES


def test_names_and_sizes_are_those_of_the_package() -> None:
    theirs = {int(kind): (kind.name.lower(), *GGML_QUANT_SIZES[kind]) for kind in GGMLQuantizationType}
    assert {kind: tuple(known) for kind, known in GGML_TYPES.items()} == theirs
