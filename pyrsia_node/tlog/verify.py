"""Does the log vouch for this file? The whole offline check, from a proof's bytes to an answer.

No network, no clock, no disk: what is not in the arguments does not count. The k attestations
behind an entry are named in it by leaf index; checking those is the work of an audit.
"""

from __future__ import annotations

from dataclasses import dataclass

from pyrsia_node.model.documents import FileEntry
from pyrsia_node.model.errors import InvalidInputError, VerificationError
from pyrsia_node.model.leaves import Accepted, decode_outcome
from pyrsia_node.tlog.proof import EntryProof
from pyrsia_node.tlog.trust import Cosigned, Trust


@dataclass(frozen=True, slots=True)
class ProvedEntry:
    """An ACCEPTED entry that stands in the log at ``index``, under a cosigned checkpoint."""

    index: int
    entry: Accepted
    cosigned: Cosigned


@dataclass(frozen=True, slots=True)
class ProvedFile:
    """That the log vouches for a file.

    ``contradicted_by`` is the SHA-256 of other bytes that the upstream publishes under the same
    name: k members agree that its source does not build them. None in the usual case.
    """

    proved: ProvedEntry
    file: FileEntry
    contradicted_by: str | None


def verify_entry(bundle: bytes, trust: Trust) -> ProvedEntry:
    """Check an offline proof of an ACCEPTED entry.

    Args:
        bundle: The bytes of a ``.tlog-proof`` file, from anywhere.
        trust: Whose cosignatures count.

    Raises:
        InvalidInputError: Not a proof, without the entry inside, or of another kind of entry.
        VerificationError: Inclusion or quorum does not hold; names both values.
    """
    proof = EntryProof.parse(bundle)
    if proof.extra is None:
        raise InvalidInputError("proof carries no entry (no 'extra' line)")
    entry = decode_outcome(proof.extra)
    if not isinstance(entry, Accepted):
        raise InvalidInputError(
            f"proof is of an entry of kind {type(entry).__name__}, which vouches for no file"
        )
    proof.verify_leaf(proof.extra)
    return ProvedEntry(index=proof.index, entry=entry, cosigned=trust.check(proof.signed))


def verify_bundle(
    bundle: bytes, trust: Trust, *, file_sha256: str, purl: str, file_name: str
) -> ProvedFile:
    """Check that the log vouches for a file of a package.

    Args:
        bundle: The bytes of a ``.tlog-proof`` file, from anywhere.
        trust: Whose cosignatures count.
        file_sha256: Lowercase hex SHA-256 of the file's bytes, as the caller computed it.
        purl: The package version that the caller wants, in canonical form.
        file_name: The name under which the caller has the file.

    Raises:
        InvalidInputError: As ``verify_entry``.
        VerificationError: A step does not hold, or the entry is of another package, name or
            digest; names both values.
    """
    proved = verify_entry(bundle, trust)
    document = proved.entry.document
    if str(document.purl) != purl:
        raise VerificationError(f"entry {proved.index} is of {document.purl}, not {purl}")
    by_name = {file.name: file for file in document.files}
    file = by_name.get(file_name)
    if file is None:
        raise VerificationError(
            f"entry {proved.index} of {purl} lists {', '.join(by_name)}, not {file_name}"
        )
    if file.sha256 != file_sha256:
        raise VerificationError(
            f"{file_name} has sha256 {file_sha256}, entry {proved.index} lists {file.sha256}"
        )
    upstream = {each.name: each.sha256 for each in document.contradicts}
    return ProvedFile(proved=proved, file=file, contradicted_by=upstream.get(file_name))
