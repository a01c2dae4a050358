"""Named, idempotent rules that repair texts, and the check for rows that hold no answer. ``rules`` is the door."""
