"""Makes ed25519.json: edge cases of the verification equation, built from the curve itself.

Run it as ``python -m tests.vectors.consensus.make_ed25519 PATH`` from the root of the repository.
The cases need no library but the verifier under test; the arithmetic is RFC 8032, section 5.1.
"""

from __future__ import annotations

import hashlib
import json
import sys
from dataclasses import dataclass
from pathlib import Path

from consensus import ed25519

P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, P - 2, P) % P
ROOT_OF_MINUS_1 = pow(2, (P - 1) // 4, P)
SEED = bytes(range(32))
MESSAGE = b"pyrsia"

Point = tuple[int, int]
IDENTITY: Point = (0, 1)


@dataclass(frozen=True)
class Case:
    why: str
    key: bytes
    message: bytes
    signature: bytes

    def as_json(self) -> dict[str, str | bool]:
        return {
            "why": self.why,
            "key": self.key.hex(),
            "message": self.message.hex(),
            "signature": self.signature.hex(),
            "accepted": ed25519.verify(self.key, self.message, self.signature),
            "valid_key": ed25519.is_valid_key(self.key),
        }


def recover_x(y: int, sign: int) -> int | None:
    square = (y * y - 1) * pow(D * y * y + 1, P - 2, P) % P
    x = int(pow(square, (P + 3) // 8, P))
    if (x * x - square) % P:
        x = x * ROOT_OF_MINUS_1 % P
    if (x * x - square) % P:
        return None
    return x if x & 1 == sign else P - x


def add(one: Point, two: Point) -> Point:
    (x1, y1), (x2, y2) = one, two
    t = D * x1 * x2 * y1 * y2
    x = (x1 * y2 + x2 * y1) * pow(1 + t, P - 2, P) % P
    return x, (y1 * y2 + x1 * x2) * pow(1 - t, P - 2, P) % P


def multiply(scalar: int, point: Point) -> Point:
    total = IDENTITY
    while scalar:
        if scalar & 1:
            total = add(total, point)
        point = add(point, point)
        scalar >>= 1
    return total


def encode(point: Point) -> bytes:
    return number(point[1] | (point[0] & 1) << 255)


def number(value: int) -> bytes:
    return value.to_bytes(32, "little")


def point_at(y: int, sign: int) -> Point:
    x = recover_x(y, sign)
    assert x is not None
    return x, y


def decode(data: bytes) -> Point:
    value = int.from_bytes(data, "little")
    return point_at(value & (2**255 - 1), value >> 255)


BASE = point_at(4 * pow(5, P - 2, P) % P, 0)


def challenge(*parts: bytes) -> int:
    return int.from_bytes(hashlib.sha512(b"".join(parts)).digest(), "little") % L


def torsion() -> list[Point]:
    """Return the eight points whose order divides eight."""
    for y in range(2, 100):
        x = recover_x(y, 0)
        found = IDENTITY if x is None else multiply(L, (x, y))
        if multiply(4, found) != IDENTITY:
            return [multiply(times, found) for times in range(8)]
    raise AssertionError("no point of order eight")


def scalar_cases(key: bytes, signature: bytes) -> list[Case]:
    r, s = signature[:32], int.from_bytes(signature[32:], "little")
    found = [
        Case(f"S + {k}L, the scalar not reduced", key, MESSAGE, r + number(s + k * L))
        for k in (1, 2, 3)
    ]
    found.append(Case("S = L", key, MESSAGE, r + number(L)))
    found.append(Case("S with its highest bit set", key, MESSAGE, r + number(s | 1 << 255)))
    return found


def key_cases(a: int, public: Point) -> list[Case]:
    """Keys of small order and keys with a torsion part, with signatures that satisfy equations."""
    found = []
    for times, small in enumerate(torsion()):
        r = encode(multiply(777, BASE))
        for part, secret in ((IDENTITY, 0), (public, a)):
            if part == public and small == IDENTITY:
                continue
            key = encode(add(part, small))
            kind = "of small order" if part == IDENTITY else "with a torsion part"
            for is_strict in (True, False):
                message = message_for(r, key, small, is_strict=is_strict)
                if message is None:
                    continue
                s = (777 + challenge(r, key, message) * secret) % L
                equation = "holds" if is_strict else "holds only with the cofactor"
                why = f"key {kind} ({times} x torsion), equation {equation}"
                found.append(Case(why, key, message, r + number(s)))
    return found


def message_for(r: bytes, key: bytes, small: Point, *, is_strict: bool) -> bytes | None:
    """Find a message whose challenge cancels the torsion, or one whose challenge does not."""
    for attempt in range(200):
        message = b"message %d" % attempt
        is_cancelled = multiply(challenge(r, key, message), small) == IDENTITY
        if is_cancelled is is_strict:
            return message
    return None


def nonce_cases(key: bytes, a: int) -> list[Case]:
    """R of small order, R with a torsion part: both equations hold with the cofactor only."""
    found = []
    for times, small in enumerate(torsion()):
        for scalar, kind in ((0, "of small order"), (777, "with a torsion part")):
            r = encode(add(multiply(scalar, BASE), small))
            s = (scalar + challenge(r, key, MESSAGE) * a) % L
            why = f"R {kind} ({times} x torsion)"
            found.append(Case(why, key, MESSAGE, r + number(s)))
    return found


def encoding_cases(key: bytes, a: int) -> list[Case]:
    found = []
    for why, value in (
        ("y = p, which is 0 not reduced", P),
        ("y = p + 1, which is 1 not reduced", P + 1),
        ("y = 1 with a sign", 1 | 1 << 255),
        ("y = p + 1 with a sign", P + 1 | 1 << 255),
        ("y = 2^255 - 1", 2**255 - 1),
        ("y = 7, no point of the curve", 7),
    ):
        bad = number(value)
        s = number(challenge(bad, key, MESSAGE) * a % L)
        found.append(Case(f"key {why}", bad, MESSAGE, encode(multiply(5, BASE)) + bytes(32)))
        found.append(Case(f"R {why}", key, MESSAGE, bad + s))
    return found


def every_case() -> list[Case]:
    key, signature = ed25519.public_key(SEED), ed25519.signer(SEED)(MESSAGE)
    digest = hashlib.sha512(SEED).digest()
    a = int.from_bytes(digest[:32], "little") & ((1 << 254) - 8) | 1 << 254
    return [
        Case("an honest signature", key, MESSAGE, signature),
        Case("another message", key, b"pyrsiA", signature),
        *scalar_cases(key, signature),
        *key_cases(a, decode(key)),
        *nonce_cases(key, a),
        *encoding_cases(key, a),
        Case("all zero", bytes(32), MESSAGE, bytes(64)),
        Case("signature too short", key, MESSAGE, signature[:63]),
        Case("signature too long", key, MESSAGE, signature + b"\0"),
        Case("key too short", key[:31], MESSAGE, signature),
        Case("key too long", key + b"\0", MESSAGE, signature),
        Case("nothing at all", b"", b"", b""),
    ]


if __name__ == "__main__":
    cases = [case.as_json() for case in every_case()]
    Path(sys.argv[1]).write_text(json.dumps(cases, indent=1) + "\n")
