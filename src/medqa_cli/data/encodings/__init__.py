"""In which encoding a text file or a damaged text is."""
