"""What a question asks and about what: fixed forms, topics, and other wordings of the same question."""
