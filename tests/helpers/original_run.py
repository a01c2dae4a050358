"""The settings of the run that medqa takes over."""

# The first version's settings (mid 2024), but for its defects.
ORIGINAL = {
    "model.name_or_path": "abhishek/llama-2-7b-hf-small-shards",
    "model.quantization": "nf4",
    "model.compute_dtype": "float16",
    "model.double_quantization": False,
    "model.max_length": 1024,
    "prompt.template": "llama2",
    "prompt.system": "Answer the Question",
    "lora.r": 64,
    "lora.lora_alpha": 16,
    "lora.lora_dropout": 0.1,
    "lora.bias": "none",
    "lora.target_modules": "auto",
    "train.num_train_epochs": 1,
    "train.per_device_train_batch_size": 2,
    "train.gradient_accumulation_steps": 4,
    "train.gradient_checkpointing": True,
    "train.learning_rate": 2e-4,
    "train.lr_scheduler_type": "constant",
    "train.warmup_ratio": 0.03,
    "train.weight_decay": 0.001,
    "train.max_grad_norm": 0.3,
    "train.optim": "paged_adamw_32bit",
    "train.save_steps": 75,
    "train.logging_steps": 75,
    "train.report_to": "tensorboard",
}
HAS_OWN_VALUE = {"model.name_or_path", "model.compute_dtype", "train.report_to"}


def value_at(config: object, dotted: str) -> object:
    for name in dotted.split("."):
        config = getattr(config, name)
    return config
