"""Derivation, the file's strictness, and the certificate; files in a temporary folder."""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509

from consensus import ed25519
from pyrsia_node.model.errors import InvalidInputError, NotFoundError, VerificationError
from pyrsia_node.model.members import sign_member
from pyrsia_node.store.keys import (
    Argon2Cost,
    KeyUse,
    NodeKeys,
    create_keys,
    is_sealed,
    load_keys,
)

SEED = bytes(range(32))
CHEAP = Argon2Cost(passes=1, memory_bytes=8192)

# Golden: our own first run, then frozen. A change here is another identity for every node.
GOLDEN_KEYS = {
    KeyUse.P2P: "a645ea3a29259a44a0ea42b464082b15b2b214be3699095c0a1932722523397b",
    KeyUse.VOTE: "0b6680c8045ff356aa4bae196753df4b4dac9b1f5132b79560f38abe508c8964",
    KeyUse.COSIGN: "01e136eac9712cc9d9b9e68795a4433c6e617365119eb97412ea626a587863c6",
    KeyUse.LOG: "e02da8459a06724f256d606b61d56ef1a074abf08e4ed5dce94a5c06bc71cb6a",
    KeyUse.TX: "40ab8c7939fb00a5f976192ec18f2bc07bc5f3297ba7246daf5dafa4dc4e06eb",
    KeyUse.TLS: "be86ac0c9aeb2f3f9b677dfed9a367eea78dff3b3f323a85fe73bc343e696147",
}
GOLDEN_FINGERPRINT = "ed9c4f6187d36a9bfabdf5e3ea48c82ebae9b48624ac2ca53030562c65199297"


GOLDEN_TOKEN_KEY = "e2ef7be686dd25a9684dca2994edefaea1e6f3ed5ff80465d137f43a4ff3c68a"


def test_key_of_registry_tokens_never_changes_and_is_no_other_key() -> None:
    keys = NodeKeys(SEED)
    assert keys.token_key().hex() == GOLDEN_TOKEN_KEY
    assert keys.token_key() != keys.p2p_seed()


def test_derived_keys_and_certificate_never_change() -> None:
    keys = NodeKeys(SEED)
    assert {use: keys.public(use).hex() for use in KeyUse} == GOLDEN_KEYS
    assert keys.tls().fingerprint == GOLDEN_FINGERPRINT
    assert ed25519.public_key(keys.p2p_seed()) == keys.public(KeyUse.P2P)


def test_every_use_has_a_key_of_its_own_and_signs_with_it() -> None:
    keys = NodeKeys(SEED)
    assert len({keys.public(use) for use in KeyUse}) == len(KeyUse)
    for use in KeyUse:
        assert ed25519.is_valid_key(keys.public(use))
        assert ed25519.verify(keys.public(use), b"message", keys.signer(use)(b"message"))


def test_the_member_record_is_signed_by_the_derived_keys() -> None:
    keys = NodeKeys(SEED)
    sign_member("node-0", keys.member_keys(), keys.member_signers()).verify(ed25519.verify)


def test_the_certificate_is_deterministic_and_a_server_can_use_it() -> None:
    first, second = NodeKeys(SEED).tls(), NodeKeys(SEED).tls()
    assert first == second
    assert first != NodeKeys(SEED[::-1]).tls()
    certificate = x509.load_pem_x509_certificate(first.certificate_pem)
    certificate.verify_directly_issued_by(certificate)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    first.load_into(context)


def test_secrets_do_not_show_in_repr() -> None:
    keys = NodeKeys(SEED)
    assert keys.p2p_seed().hex() not in repr(keys)
    assert "PRIVATE" not in repr(keys.tls())


@pytest.mark.parametrize("passphrase", [None, "correct horse"])
def test_keys_come_back_from_their_file(tmp_path: Path, passphrase: str | None) -> None:
    path = tmp_path / "node.key"
    created = create_keys(path, passphrase=passphrase, cost=CHEAP)
    assert path.stat().st_mode & 0o777 == 0o600
    assert is_sealed(path) == (passphrase is not None)
    loaded = load_keys(path, passphrase=passphrase)
    assert loaded.member_keys() == created.member_keys()


def test_an_existing_key_file_is_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "node.key"
    create_keys(path)
    before = path.read_bytes()
    with pytest.raises(InvalidInputError, match="never overwritten"):
        create_keys(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o610])
def test_a_key_file_that_others_may_touch_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "node.key"
    create_keys(path)
    path.chmod(mode)
    with pytest.raises(InvalidInputError, match="chmod 600"):
        load_keys(path)


def test_a_link_in_place_of_the_key_file_is_refused(tmp_path: Path) -> None:
    create_keys(tmp_path / "elsewhere")
    (tmp_path / "node.key").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InvalidInputError, match="cannot be read"):
        load_keys(tmp_path / "node.key")


def test_an_absent_key_file_names_the_command_that_makes_it(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="pyrsia-node init"):
        load_keys(tmp_path / "node.key")


def test_a_wrong_passphrase_and_a_changed_seal_are_told(tmp_path: Path) -> None:
    path = tmp_path / "node.key"
    create_keys(path, passphrase="right", cost=CHEAP)
    with pytest.raises(InvalidInputError, match="none was given"):
        load_keys(path)
    with pytest.raises(VerificationError, match="passphrase is wrong"):
        load_keys(path, passphrase="wrong")
    text = path.read_text()
    path.write_text(text[:-2] + ("0" if text[-2] != "0" else "1") + "\n")
    with pytest.raises(VerificationError, match="file changed"):
        load_keys(path, passphrase="right")
    with pytest.raises(InvalidInputError, match="empty"):
        create_keys(tmp_path / "other.key", passphrase="")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\n",
        b"pyrsia-node-key/v1 plain 00\n",
        b"pyrsia-node-key/v1 plain " + b"0" * 64,
        b"pyrsia-node-key/v1 plain " + b"g" * 64 + b"\n",
        b"pyrsia-node-key/v2 plain " + b"0" * 64 + b"\n",
        b"pyrsia-node-key/v1 argon2id 99999999 8192 " + b"0" * 32 + b" " + b"0" * 144 + b"\n",
        b"pyrsia-node-key/v1 argon2id 1 99999999999 " + b"0" * 32 + b" " + b"0" * 144 + b"\n",
        b"pyrsia-node-key/v1 argon2id 1 8192 00 00\n",
        b"\xff" * 2000,
    ],
)
def test_a_malformed_key_file_is_bad_input(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "node.key"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(InvalidInputError, match="no key file"):
        load_keys(path, passphrase="x")


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_what_is_no_regular_file_is_refused(
    tmp_path: Path, make: Callable[[Path, int], None]
) -> None:
    make(tmp_path / "node.key", 0o700)
    with pytest.raises(InvalidInputError, match="no regular file"):
        load_keys(tmp_path / "node.key")
