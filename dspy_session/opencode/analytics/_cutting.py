"""The beginning of a long text, cut where no secret can be cut in two.

Secrets are found by their shape: half a key, or a URL that ends before its `@`, would be shown as it is. They have no
white space, quotes or angle brackets in them, so a text that ends at one of these holds each of them whole; but for
private keys, which are known by their first line.
"""

from __future__ import annotations

import re

# The scripts from Thai on, which are written without spaces, would else be cut to nothing. A password in one of them
# may be cut in two.
_END = re.compile(r"[\s\"'<>\u0e00-\U0010ffff]")


def beginning(text: str, longest: int) -> str:
    """The text, or its beginning: at most `longest` characters, up to the end of a word.

    A single word that is longer gives an empty text.
    """
    if len(text) <= longest:
        return text
    # What follows the last character that fits may be the end of its word.
    backwards = text[longest::-1]
    end = _END.search(backwards)
    return "" if end is None else text[: min(longest, longest + 1 - end.start())]
