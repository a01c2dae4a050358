"""Encodings of the bytes that tests make."""


def is_no_utf8(content: bytes) -> bool:
    """Tell whether bytes are in another encoding than UTF-8."""
    try:
        content.decode("utf-8")
    except UnicodeDecodeError:
        return True
    return False
