"""Liger's Triton kernels on CUDA, where the package ``liger-kernel`` is installed: rotary embedding and RMSNorm.

Losses in chunks and the gated SiLU stay medqa's own (``answer_loss``, ``fused_layers``): with an adapter they
keep less for the backward pass. Applied by Transformers' own integration. Does nothing elsewhere.
"""

from __future__ import annotations

from typing import Any

import torch

# Left to medqa's own layers: see above.
_KERNELS = {
    "rope": True,
    "rms_norm": True,
    "swiglu": False,
    "cross_entropy": False,
    "fused_linear_cross_entropy": False,
}
_MARK = "medqa_uses_liger_kernels"


def use_liger_kernels(causal_lm: Any, device: torch.device) -> bool:
    """Let a model on CUDA compute with Liger's kernels; return whether it does."""
    from transformers.utils import is_liger_kernel_available

    if device.type != "cuda" or not is_liger_kernel_available():
        return False
    from liger_kernel.transformers.monkey_patch import MODEL_TYPE_TO_APPLY_LIGER_FN
    from transformers.integrations.liger import apply_liger_kernel

    if causal_lm.config.model_type not in MODEL_TYPE_TO_APPLY_LIGER_FN:
        return False
    apply_liger_kernel(causal_lm, dict(_KERNELS))
    setattr(causal_lm, _MARK, True)
    return True


def uses_liger_kernels(model: torch.nn.Module) -> bool:
    """Tell whether ``use_liger_kernels`` changed this model, or the one that it wraps."""
    return any(hasattr(module, _MARK) for module in model.modules())
