"""``medqa serve``: answers over HTTP, in OpenAI's form for programs and on a page for people."""
