"""What the files of a model or an adapter may say, checked before a library acts on it."""
