"""Settings that are far from what people train adapters with: allowed, and told before the training.

The ranges are wide; what lies outside of them has ruined models in public reports. Does not refuse anything.
"""

from __future__ import annotations

import math

from medqa_cli.config.schema import LoraConfig, TrainConfig

# Parameters of the base -> the highest usual learning rate, five times that of QLoRA (arXiv 2305.14314, table 9:
# 2e-4 up to 13 billion, 1e-4 above) and of LoRA (arXiv 2106.09685, tables 11 and 12: 2e-4 on GPT-2 and GPT-3). Small
# models bear more; below 100 million anything goes.
_HIGHEST_LEARNING_RATES = ((15e9, 5e-4), (1e9, 1e-3), (1e8, 2e-3))
_LOWEST_LEARNING_RATE = 1e-6
# alpha / r: 0.25 in QLoRA (16 / 64), 8 in LoRA on GPT-2 (32 / 4).
_SCALES = (0.05, 16.0)
_LEAST_SHARE_OF_ROWS = 0.1


def unusual_settings(
    lora: LoraConfig, train: TrainConfig, *, num_parameters: int, num_examples: int, num_steps: int
) -> list[str]:
    """Return what is unusual, each in a sentence with the usual range.

    Args:
        lora: section of the config.
        train: section of the config.
        num_parameters: of the base.
        num_examples: in the training split.
        num_steps: optimizer steps of the training.
    """
    told = [*_of_learning_rate(train.learning_rate, num_parameters), *_of_scale(lora)]
    if lora.lora_dropout > 0.5:
        told.append(f"lora.lora_dropout {lora.lora_dropout:g} drops most of the adapter's inputs; usual are 0 to 0.1")
    if train.weight_decay > 1:
        told.append(f"train.weight_decay {train.weight_decay:g} pulls the adapter back to 0; usual are 0 to 0.1")
    if 0 < train.max_grad_norm < 0.01:
        told.append(f"train.max_grad_norm {train.max_grad_norm:g} makes every step tiny; usual are 0.3 to 1")
    warms_up = train.lr_scheduler_type not in ("constant", "reduce_lr_on_plateau", "greedy")
    if warms_up and train.warmup_ratio > 0.5:
        steps = math.ceil(train.warmup_ratio * num_steps)
        told.append(
            f"train.warmup_ratio {train.warmup_ratio:g}: the learning rate rises for {steps} of {num_steps} steps"
        )
    rows = num_steps * train.per_device_train_batch_size * train.gradient_accumulation_steps
    if train.max_steps > 0 and rows < _LEAST_SHARE_OF_ROWS * num_examples:
        told.append(f"train.max_steps {train.max_steps}: {rows:,} of {num_examples:,} training rows are seen")
    return told


def _of_learning_rate(rate: float, num_parameters: int) -> list[str]:
    highest = next((limit for size, limit in _HIGHEST_LEARNING_RATES if num_parameters >= size), math.inf)
    if _LOWEST_LEARNING_RATE <= rate <= highest:
        return []
    result = "so low that next to nothing is learnt" if rate < _LOWEST_LEARNING_RATE else "so high that models break"
    size = f"{num_parameters / 1e9:.1f} billion" if num_parameters >= 1e9 else f"{num_parameters / 1e6:.0f} million"
    top = "" if math.isinf(highest) else f" to {highest:g}"
    return [f"train.learning_rate {rate:g} is {result}, as a rule: usual are 1e-5{top} on {size} parameters"]


def _of_scale(lora: LoraConfig) -> list[str]:
    scale = lora.lora_alpha / (math.sqrt(lora.r) if lora.use_rslora else lora.r)
    low, high = _SCALES
    if low <= scale <= high:
        return []
    by = "sqrt(r)" if lora.use_rslora else "r"
    return [f"lora.lora_alpha / {by} is {scale:.3g}, the update's scale: usual are 0.25 to 8"]
