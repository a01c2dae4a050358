"""Training an adapter: the work of ``medqa train``."""

from medqa_cli import hub

# Before the modules of this package import Transformers and PEFT, which import it where it is installed.
hub.forbid_kernels()
