"""What a tuned model has memorized of its training rows: answers word for word, identifiers, planted canaries."""
