"""The prompt contract: how a question becomes token ids, the same in training, asking and other tools."""
