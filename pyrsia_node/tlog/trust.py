"""What a reader of the log trusts: the genesis, and each change of the member set since.

A checkpoint counts when a quorum of the members of its epoch cosigned it. Epoch 0 is that of the
genesis; every later set is proved by the block that made it: header, certificate under the set
before, and the ``set`` leaf whose hash the header names. So who holds a genesis (or its hash) can
check everything that follows, offline. The file, ``<network>.trust``, is text::

    pyrsia-trust@v1
    genesis <base64 of the genesis bytes>
    change <base64 of the header> <base64 of the certificate> <base64 of the set leaf>

Not here: the memory of the largest head seen, which a client that follows a log keeps beside it.
Specification: docs/spec/log-formats.md.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Final

from consensus import ed25519
from consensus.errors import DecodeError
from consensus.ingress import verify_certificate
from consensus.types import Digest, VoteKind
from consensus.wire import decode_certificate
from pyrsia_node.model.digest import sha256_of
from pyrsia_node.model.errors import InvalidInputError, VerificationError
from pyrsia_node.model.genesis import Genesis
from pyrsia_node.model.leaves import Header
from pyrsia_node.model.members import SetLeaf
from pyrsia_node.tlog.checkpoint import Checkpoint, SignedCheckpoint, cosigner_key, log_key
from pyrsia_node.tlog.note import KeyType, VerifierKey
from pyrsia_node.tlog.text import decode_base64, decode_lines, encode_base64
from pyrsia_node.tlog.tree import leaf_hash

TRUST_BYTES_MAX: Final = 64 * 1024 * 1024
"""Longest trust file: some 9,000 changes of a set of seven, or 1,000 of the largest set."""

_FIRST_LINE: Final = "pyrsia-trust@v1"


@dataclass(frozen=True, slots=True)
class SetChange:
    """The proof that one epoch follows another: bytes as they stand in the chain."""

    header: bytes
    certificate: bytes
    set_leaf: bytes


@dataclass(frozen=True, slots=True)
class TrustFile:
    """The content of a trust file; nothing in it is checked until ``Trust.establish``."""

    genesis: bytes
    changes: tuple[SetChange, ...] = ()

    def encode(self) -> bytes:
        """Return the bytes of the file."""
        lines = [_FIRST_LINE, f"genesis {encode_base64(self.genesis)}"]
        for change in self.changes:
            parts = (change.header, change.certificate, change.set_leaf)
            lines.append(" ".join(["change", *(encode_base64(part) for part in parts)]))
        return "".join(f"{line}\n" for line in lines).encode()

    @classmethod
    def parse(cls, data: bytes) -> TrustFile:
        """Return the content of a file.

        Raises:
            InvalidInputError: Too long or malformed.
        """
        lines = decode_lines(data, what="trust file", bytes_max=TRUST_BYTES_MAX)
        if lines[0] != _FIRST_LINE:
            raise InvalidInputError(f"trust file starts with {lines[0]!r:.60}, not {_FIRST_LINE!r}")
        if len(lines) < 2:
            raise InvalidInputError("trust file has no genesis line")
        (genesis,) = _fields(lines[1], "genesis", 1)
        changes = (_fields(line, "change", 3) for line in lines[2:])
        return cls(
            genesis=genesis,
            changes=tuple(SetChange(header, cert, leaf) for header, cert, leaf in changes),
        )


@dataclass(frozen=True, slots=True)
class Epoch:
    """A member set and the sizes of the checkpoints that it signs: more than ``after_size``.

    ``height`` is that of the block that made the set, 0 for the set of the genesis.
    """

    members: SetLeaf
    after_size: int
    height: int


@dataclass(frozen=True, slots=True)
class Cosigned:
    """That a quorum cosigned a checkpoint.

    ``time_s`` is the newest Unix time at or after which a quorum stood behind it: the q-th newest
    of the cosignatures' times, so f liars cannot make a stale head look fresh.
    """

    checkpoint: Checkpoint
    epoch: int
    labels: tuple[str, ...]
    quorum: int
    time_s: int


@dataclass(frozen=True, slots=True)
class Trust:
    """An established trust: a genesis and the epochs proved from it, the last one current."""

    genesis: Genesis
    epochs: tuple[Epoch, ...]

    @classmethod
    def establish(cls, file: TrustFile, *, network_id: bytes | None = None) -> Trust:
        """Return the trust that a file proves.

        Args:
            file: The content of a trust file.
            network_id: The network's id when it is known from elsewhere; must then match.

        Raises:
            InvalidInputError: A part is malformed.
            VerificationError: The genesis is another network's, or a signature, a certificate or a
                link between two epochs does not hold; names both values.
        """
        genesis = Genesis.decode(file.genesis)
        if network_id is not None and genesis.network_id != network_id:
            raise VerificationError(
                f"trust file is of network {genesis.network_id.hex()}, not {network_id.hex()}"
            )
        genesis.verify(ed25519.verify)
        first = Epoch(members=genesis.set_leaf(), after_size=0, height=0)
        return cls(genesis=genesis, epochs=(first,)).extended(*file.changes)

    def extended(self, *changes: SetChange) -> Trust:
        """Return this trust with the sets that ``changes`` prove, each upon the one before.

        Cost: the signatures of one certificate a change, at most some 100 microseconds each.

        Raises:
            InvalidInputError: A part is malformed.
            VerificationError: A certificate or a link between two epochs does not hold, or an
                epoch was left out; names both values.
        """
        epochs = [*self.epochs]
        for change in changes:
            epochs.append(_next_epoch(epochs[-1], change, self.genesis.network_id))
        return Trust(genesis=self.genesis, epochs=tuple(epochs))

    @property
    def origin(self) -> str:
        """The origin line of the network's checkpoints."""
        return self.genesis.origin

    @property
    def current(self) -> SetLeaf:
        """The newest member set that is proved."""
        return self.epochs[-1].members

    def epoch_at(self, size: int) -> Epoch:
        """Return the epoch whose members sign a checkpoint of ``size``."""
        for epoch in reversed(self.epochs):
            if size > epoch.after_size:
                return epoch
        return self.epochs[0]

    def check(self, signed: SignedCheckpoint) -> Cosigned:
        """Check that a quorum of the epoch's members cosigned a checkpoint of this network.

        Raises:
            VerificationError: Another origin, a bad signature of a member, or too few; names what
                there is and what is needed.
        """
        checkpoint = signed.checkpoint
        if checkpoint.origin != self.origin:
            raise VerificationError(
                f"checkpoint is of log {checkpoint.origin!r:.120}, not {self.origin!r}"
            )
        members = self.epoch_at(checkpoint.size).members
        keys = cosigner_keys(members) + log_keys(self.origin, members)
        found = [each for each in signed.verified_by(keys) if each.key.type is KeyType.COSIGNATURE]
        if len(found) < members.quorum:
            raise VerificationError(
                f"checkpoint of size {checkpoint.size} has {len(found)} cosignatures of epoch "
                f"{members.epoch}, needs {members.quorum} of {len(members.members)}"
            )
        times = sorted((each.time_s or 0 for each in found), reverse=True)
        return Cosigned(
            checkpoint=checkpoint,
            epoch=members.epoch,
            labels=tuple(sorted(each.key.name for each in found)),
            quorum=members.quorum,
            time_s=times[members.quorum - 1],
        )

    def policy(self) -> str:
        """Return the current set as a C2SP tlog-policy file, for tools that are not ours."""
        members = self.current
        labels = [record.label for record in members.members]
        witnesses = zip(labels, cosigner_keys(members), strict=True)
        lines = [
            f"# {self.origin}, epoch {members.epoch}",
            *(f"log {key.format()}" for key in log_keys(self.origin, members)),
            *(f"witness {label} {key.format()}" for label, key in witnesses),
            f"group quorum-rule {members.quorum} {' '.join(labels)}",
            "quorum quorum-rule",
        ]
        return "".join(f"{line}\n" for line in lines)


@functools.lru_cache(maxsize=16)
def cosigner_keys(members: SetLeaf) -> tuple[VerifierKey, ...]:
    """Return the cosignature keys of a set, in member order.

    Raises:
        InvalidInputError: A key is of small or mixed order.
    """
    return tuple(cosigner_key(each.label, each.keys.cosign) for each in members.members)


@functools.lru_cache(maxsize=16)
def log_keys(origin: str, members: SetLeaf) -> tuple[VerifierKey, ...]:
    """Return the log keys of a set, in member order; all bear the log's origin as name.

    Raises:
        InvalidInputError: A key is of small or mixed order.
    """
    return tuple(log_key(origin, each.keys.log) for each in members.members)


def _next_epoch(before: Epoch, change: SetChange, network_id: bytes) -> Epoch:
    """Return the epoch that ``change`` proves. CONSENSUS 3.8."""
    header = Header.decode(change.header)
    leaf = SetLeaf.decode(change.set_leaf)
    what = f"change to epoch {leaf.epoch} at height {header.height}"
    old_hash = before.members.digest()
    for name, found, expected in (
        ("network", header.network, network_id.hex()),
        ("set", header.set, old_hash),
        ("prev", leaf.prev, old_hash),
        ("next_set", header.next_set, sha256_of(change.set_leaf)),
        ("epoch", str(leaf.epoch), str(before.members.epoch + 1)),
        ("prev_epoch_height", str(header.prev_epoch_height), str(before.height)),
    ):
        if found != expected:
            raise VerificationError(f"{what}: {name} is {found}, expected {expected}")
    if header.size <= before.after_size:
        raise VerificationError(
            f"{what}: ends at size {header.size}, the epoch before began after {before.after_size}"
        )
    _check_certificate(before.members, header, change, network_id)
    return Epoch(members=leaf, after_size=header.size, height=header.height)


def _check_certificate(
    members: SetLeaf, header: Header, change: SetChange, network_id: bytes
) -> None:
    what = f"certificate of height {header.height}"
    try:
        certificate = decode_certificate(change.certificate, n=len(members.members))
    except DecodeError as error:
        raise InvalidInputError(f"{what} is malformed: {error}") from None
    block_hash = leaf_hash(change.header)
    if certificate.kind is not VoteKind.FINALIZE or certificate.height != header.height:
        raise VerificationError(
            f"{what} is a {certificate.kind.name} certificate of height {certificate.height}"
        )
    if certificate.block_hash != block_hash:
        raise VerificationError(
            f"{what} is of block {certificate.block_hash.hex()}, not {block_hash.hex()}"
        )
    if not verify_certificate(
        certificate, members.to_consensus(), Digest(network_id), ed25519.verify
    ):
        raise VerificationError(f"{what}: a signature of epoch {members.epoch} does not hold")


def _fields(line: str, word: str, count: int) -> list[bytes]:
    first, *rest = line.split(" ")
    if first != word or len(rest) != count:
        raise InvalidInputError(f"trust file: {line!r:.60} is no {word!r} line of {count} fields")
    return [decode_base64(each, what=f"trust file's {word}") for each in rest]
