"""Identifiers of persons in questions and answers: found by rules, counted, shown, replaced, and recorded."""
