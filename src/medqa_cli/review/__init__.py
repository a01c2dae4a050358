"""``medqa review``: clinicians judge answers, blind; their judgments become figures with intervals, and preferences."""
