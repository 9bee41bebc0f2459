"""Names from outside as text that a person reads: file names may hold any bytes or characters."""

from __future__ import annotations

import unicodedata

_UNSEEN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
"""Categories of control and format characters, lone surrogates, private and unassigned ones."""

_JOINERS = "\N{ZERO WIDTH NON-JOINER}\N{ZERO WIDTH JOINER}\N{SOFT HYPHEN}"
"""Format characters that belong to words and emoji, and turn nothing round."""


def legible(text: str) -> str:
    r"""The text with what cannot be seen or encoded written out, as ``\x1b`` or ``\u202e``.

    These are control characters, which move a terminal's cursor; marks that turn the direction of
    writing, behind which a name pretends to be another; and bytes of a file name that are not
    UTF-8. Line breaks and tabs stay.
    """
    if text.isprintable():
        return text
    return "".join(
        _written_out(character)
        if unicodedata.category(character) in _UNSEEN and character not in "\n\t" + _JOINERS
        else character
        for character in text
    )


def shortened(text: str, letters: int) -> str:
    """The text with lines of at most so many letters, the middle of longer ones left out.

    Args:
        text: One or more lines.
        letters: At least 5; the end of a name tells more than its middle.
    """
    return "\n".join(
        line if len(line) <= letters else f"{line[: letters // 2]}…{line[1 - (letters + 1) // 2 :]}"
        for line in text.split("\n")
    )


def _written_out(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # a byte of a file name, as os.fsdecode keeps it
        return f"\\x{code - 0xDC00:02x}"
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
