"""The errors of the consensus core.

Everything that a peer can send fails as ``DecodeError``; nothing else escapes a decoder. A broken
invariant of our own is an ``AssertionError`` and ends the process with its trace.
"""

from __future__ import annotations


class DecodeError(Exception):
    """Bytes from outside are not the canonical form of anything; the text names what is wrong."""


class SignerRefusal(Exception):  # noqa: N818 - a refusal is the signer's answer, no malfunction
    """The signer will not sign: it would contradict, or it was told to stay silent."""
