"""What several test modules share: tiny models, examples, files, processes, and the fuzzing of foreign input."""
