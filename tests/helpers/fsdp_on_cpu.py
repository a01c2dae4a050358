"""``python -m medqa_cli``, with FSDP on the CPU: a stand-in for GPUs. Started by a launcher, not by pytest.

accelerate ignores the request for FSDP where there is no accelerator. PyTorch's ``fully_shard`` runs on the CPU as
well, so that everything else (sharding, gathering, saving, all of medqa) is the real thing. The losses are computed in
chunks of 16 tokens, of which ranks have different numbers.
"""

from typing import Any

import accelerate.state
from accelerate.utils import DistributedType

from medqa_cli.cli.program import main
from medqa_cli.model.kernels import chunked_cross_entropy

State, PartialState = accelerate.state.AcceleratorState, accelerate.state.PartialState
initialize = State.__init__


def initialize_with_fsdp(self: Any, *args: Any, fsdp_plugin: Any = None, **kwargs: Any) -> None:
    initialize(self, *args, fsdp_plugin=fsdp_plugin, **kwargs)
    if fsdp_plugin is not None:
        # As accelerate does on accelerators (1.15, state.py).
        if self._mixed_precision != "no":
            fsdp_plugin.set_mixed_precision(self._mixed_precision)
        self.distributed_type, self.fsdp_plugin = DistributedType.FSDP, fsdp_plugin
        PartialState._shared_state["distributed_type"] = DistributedType.FSDP


State.__init__ = initialize_with_fsdp

chunked_cross_entropy.CHUNK_BYTES["cpu"] = 1

if __name__ == "__main__":
    main()
