"""Text of others, before a terminal gets it: nothing in it may be an order or turn the direction.

It makes text safe to print, not to read: letters that look like others pass.
"""

from __future__ import annotations


def plain(text: str) -> str:
    """Return ``text`` in which each character that is not printable is an escape, as in Python.

    Line ends, control characters, those that reverse the direction and lone surrogates are not
    printable; letters of all scripts are.
    """
    if text.isprintable():
        return text
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode() for each in text
    )


def plain_message(program: str, message: str) -> str:
    """Return the lines in which ``program`` reports an error whose text others may have written.

    What goes on after the first line is indented: it cannot pass for another message.
    """
    first, *rest = f"{program}: {message}".split("\n")
    more = (line if line.startswith("  ") else f"  {line}" for line in rest)
    return "\n".join(plain(line) for line in (first, *more))
