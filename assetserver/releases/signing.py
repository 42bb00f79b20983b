"""Signatures of manifests in minisign's format: keys, signing, verifying. Reads key files; knows no release and no clock.

A signature is a text of four lines: an untrusted comment, the base64 of algorithm, key id and Ed25519 signature, a trusted
comment, and the base64 of the global signature, which covers the signature and the trusted comment. Whatever ``minisign -S``
makes is accepted, and ``minisign -V`` accepts what is made here. The format: https://jedisct1.github.io/minisign/

Ed25519 (RFC 8032) is done by the package ``cryptography``, which ``pip install 'assetserver[signing]'`` brings.
"""

from __future__ import annotations

import binascii
import hmac
import re
import struct
from base64 import b64encode
from collections.abc import Iterable
from dataclasses import dataclass, field
from hashlib import blake2b, scrypt
from typing import TYPE_CHECKING

from assetserver.errors import SettingsError, SignatureError

from .manifest import ReleaseId

if TYPE_CHECKING:
    from types import ModuleType

SUFFIX = ".minisig"
"""What the name of a signature adds to the name of the file that it signs."""

_UNTRUSTED = b"untrusted comment: "
_TRUSTED = b"trusted comment: "
_LEGACY, _PREHASHED = b"Ed", b"ED"
_PUBLIC = struct.Struct("<2s8s32s")
_SIGNATURE = struct.Struct("<2s8s64s")
_SECRET = struct.Struct("<2s2s2s32sQQ104s")
_PAIR = struct.Struct("<8s32s32s32s")
_GLOBAL_BYTES = 64
_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_LIMIT_COMMENT_BYTES = 8192 - len(_TRUSTED) - 2
"""minisign reads a trusted comment, its line's beginning and its end into 8192 bytes."""

_LIMIT_KEY_FILE_BYTES = 4096
_LIMIT_MEMORY_BYTES = 1 << 30
_LIMIT_OPERATIONS = 1 << 27
"""minisign makes its keys with 1 GiB and 2**25 operations, or less; what asks for much more would take minutes."""


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A key to verify with: its id as minisign prints it (16 upper-case hex digits), and its 32 bytes."""

    key_id: str
    key: bytes

    def __str__(self) -> str:
        """Return the base64 line, as ``minisign -P`` takes it."""
        return _encode(_PUBLIC.pack(_LEGACY, _key_id_bytes(self.key_id), self.key))


@dataclass(frozen=True, slots=True)
class SecretKey:
    """A key to sign with, decrypted; ``seed`` (32 bytes) is never shown."""

    public_key: PublicKey
    seed: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Signature:
    """A signature as it was read; nothing of it is verified. ``is_prehashed``: of the BLAKE2b-512 of the content."""

    key_id: str
    signature: bytes
    trusted_comment: bytes
    global_signature: bytes
    is_prehashed: bool = True


def parse_public_key(text: str) -> PublicKey:
    """Return the key in ``text``: the base64 line that begins with RW, or a whole ``.pub`` file. ``SignatureError`` if none."""
    remedy = "give the line that begins with RW in the .pub file, or the whole file"
    lines = _lines_of(text, "the public key")
    if len(lines) == 2 and lines[0].startswith(_UNTRUSTED):  # noqa: PLR2004 - a comment and the key
        lines = lines[1:]
    if len(lines) != 1:
        raise SignatureError(f"the public key is {len(lines)} lines; {remedy}")
    content = _decode(lines[0], "the public key", remedy)
    if len(content) == _SECRET.size:
        raise SignatureError(f"this is a secret key, where the public one is wanted: {remedy}, and keep this one secret")
    if len(content) != _PUBLIC.size:
        raise SignatureError(f"the public key is {len(content)} bytes long, not {_PUBLIC.size}; {remedy}")
    algorithm, key_id, key = _PUBLIC.unpack(content)
    if algorithm != _LEGACY:
        raise SignatureError(f"the public key is of the unknown algorithm {_show(algorithm)}; {remedy}")
    return PublicKey(_format_key_id(key_id), key)


def parse_signature(text: str) -> Signature:
    """Return the signature in ``text``, a whole ``.minisig`` file. Raises ``SignatureError`` for anything else.

    Bytes that are not UTF-8 may come as surrogates (``errors="surrogateescape"``); they are signed as they were.
    """
    remedy = "copy the .minisig file again, or sign again"
    lines = _lines_of(text, "the signature")
    if len(lines) != 4:  # noqa: PLR2004 - comment, signature, trusted comment, global signature
        raise SignatureError(f"the signature is {len(lines)} lines, not 4; {remedy}")
    if not lines[0].startswith(_UNTRUSTED):
        raise SignatureError(f"line 1 of the signature does not begin with {_show(_UNTRUSTED)}; {remedy}")
    if not lines[2].startswith(_TRUSTED):
        raise SignatureError(f"line 3 of the signature does not begin with {_show(_TRUSTED)}; {remedy}")
    content = _decode(lines[1], "line 2 of the signature", remedy, _SIGNATURE.size)
    global_signature = _decode(lines[3], "line 4 of the signature", remedy, _GLOBAL_BYTES)
    algorithm, key_id, signature = _SIGNATURE.unpack(content)
    if algorithm not in (_LEGACY, _PREHASHED):
        raise SignatureError(f"the signature is of the unknown algorithm {_show(algorithm)}; sign again with minisign")
    comment = lines[2].removeprefix(_TRUSTED)
    _check_comment(comment)
    return Signature(_format_key_id(key_id), signature, comment, global_signature, algorithm == _PREHASHED)


def verify_signature(public_keys: Iterable[PublicKey], content: bytes, signature_text: str) -> PublicKey:
    """Return which of ``public_keys`` signed exactly ``content``; the trusted comment is then as it was signed, too.

    Raises ``SignatureError`` if the text is not a signature, or not of these bytes, or by none of these keys, and
    ``SettingsError`` if ``cryptography`` is not installed. May be repeated.
    """
    signature = parse_signature(signature_text)
    known = list(public_keys)
    candidates = [one for one in known if one.key_id == signature.key_id]
    if not candidates:
        names = ", ".join(one.key_id for one in known) or "none are given"
        raise SignatureError(
            f"key {signature.key_id} signed this, and is not among the trusted keys ({names}); "
            "sign with one of those, or trust its public key"
        )
    message = blake2b(content).digest() if signature.is_prehashed else content
    found = next((one for one in candidates if _is_signed(one, message, signature.signature)), None)
    if found is None:
        raise SignatureError(
            f"the signature of key {signature.key_id} is of other bytes than these, or of another key with this id; "
            "bring back the .minisig file made for this release, or sign it again"
        )
    if not _is_signed(found, signature.signature + signature.trusted_comment, signature.global_signature):
        raise SignatureError(
            f"the trusted comment was changed after key {signature.key_id} signed it; "
            "bring back the .minisig file as it was, or sign again"
        )
    return found


def sign(secret_key: SecretKey, content: bytes, trusted_comment: str) -> str:
    """Return the text of the ``.minisig`` file for ``content``; the same again is the same text (RFC 8032 §5.1.6).

    Raises ``SignatureError`` for a comment of more than one line, with control characters or over 8 kB, and ``SettingsError``
    if ``cryptography`` is not installed.
    """
    comment = trusted_comment.encode()
    _check_comment(comment)
    key = _ed25519().Ed25519PrivateKey.from_private_bytes(secret_key.seed)
    key_id = secret_key.public_key.key_id
    signature = key.sign(blake2b(content).digest())
    lines = (
        f"untrusted comment: signature from key {key_id}",
        _encode(_SIGNATURE.pack(_PREHASHED, _key_id_bytes(key_id), signature)),
        f"trusted comment: {trusted_comment}",
        _encode(key.sign(signature + comment)),
    )
    return "\n".join(lines) + "\n"


def format_trusted_comment(release: ReleaseId, signed: int) -> str:
    """Return what minisign itself would say of the release's manifest, signed at ``signed`` (seconds since 1970)."""
    return f"timestamp:{signed}\tfile:{release}.json\thashed"


def load_secret_key(path: str, password: bytes | None) -> SecretKey:
    """Return the key in the file at ``path``, as ``minisign -G`` made it; ``password`` is not used for one without (``-W``).

    Takes seconds and 1 GiB of memory for an encrypted key: so minisign made it. Raises ``SignatureError`` if it is not a
    secret key, is damaged, or wants a password or another one, and ``SettingsError`` if ``cryptography`` is not installed.
    """
    remedy = "give the secret key that minisign -G wrote (its -s)"
    content = _decode(_read_key_line(path, remedy), path, remedy)
    if len(content) != _SECRET.size:
        kind = "a public key" if len(content) == _PUBLIC.size else f"{len(content)} bytes long, not {_SECRET.size}"
        raise SignatureError(f"{path} is {kind}; {remedy}")
    algorithm, derivation, check, salt, operations, memory_bytes, pair = _SECRET.unpack(content)
    if algorithm != _LEGACY or check != b"B2" or derivation not in (b"Sc", b"\0\0"):
        raise SignatureError(f"{path} is of an unknown kind ({_show(content[:6])}); {remedy}")
    is_encrypted = derivation == b"Sc"
    if is_encrypted:
        if not password:
            raise SignatureError(f"{path} is encrypted; give its password in ASSETSERVER_SIGN_PASSWORD")
        pair = _decrypt(path, pair, password, salt, operations, memory_bytes)
    key_id, seed, public, checksum = _PAIR.unpack(pair)
    if is_encrypted and not hmac.compare_digest(_checksum(key_id, seed, public), checksum):
        raise SignatureError(f"this is not the password of {path}; look at ASSETSERVER_SIGN_PASSWORD")
    # minisign 0.11 leaves the checksum of a key without a password empty: that both halves fit says as much.
    if _ed25519().Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw() != public:
        raise SignatureError(f"{path} is damaged: its halves do not belong together; bring it back from a copy")
    return SecretKey(PublicKey(_format_key_id(key_id), public), seed)


def _read_key_line(path: str, remedy: str) -> bytes:
    try:
        with open(path, "rb") as file:
            content = file.read(_LIMIT_KEY_FILE_BYTES)
    except OSError as error:
        raise SignatureError(f"{path} cannot be read ({error.strerror}); {remedy}") from error
    lines = _split(content)
    if len(lines) != 2 or not lines[0].startswith(_UNTRUSTED):  # noqa: PLR2004 - a comment and the key
        raise SignatureError(f"{path} is not a key file; {remedy}")
    return lines[1]


def _decrypt(path: str, pair: bytes, password: bytes, salt: bytes, operations: int, memory_bytes: int) -> bytes:
    if operations > _LIMIT_OPERATIONS or memory_bytes > _LIMIT_MEMORY_BYTES:
        raise SignatureError(
            f"{path} asks for {operations:,} operations and {memory_bytes:,} bytes of memory, more than minisign ever does; "
            "it is damaged: bring it back from a copy"
        )
    cost, block, lanes = _scrypt_parameters(operations, memory_bytes)
    limit_bytes = 128 * block * (cost + lanes + 2) + (1 << 20)
    try:
        stream = scrypt(password, salt=salt, n=cost, r=block, p=lanes, maxmem=limit_bytes, dklen=len(pair))
    except (MemoryError, ValueError) as error:  # OpenSSL says ValueError when it gets no memory
        raise SignatureError(
            f"decrypting {path} needs {limit_bytes >> 20} MiB of memory; sign where there is as much"
        ) from error
    return bytes(one ^ other for one, other in zip(pair, stream, strict=True))


def _scrypt_parameters(operations: int, memory_bytes: int) -> tuple[int, int, int]:
    """Return scrypt's N, r and p (RFC 7914 §2) as libsodium derives them: ``crypto_pwhash_scryptsalsa208sha256``."""
    block = 8
    operations = max(operations, 32768)
    is_short_of_time = operations < memory_bytes // 32
    most = operations // (block * 4) if is_short_of_time else memory_bytes // (block * 128)
    cost = 1 << max(1, (most // 2).bit_length())
    return cost, block, 1 if is_short_of_time else operations // 4 // cost // block


def _checksum(key_id: bytes, seed: bytes, public: bytes) -> bytes:
    return blake2b(_LEGACY + key_id + seed + public, digest_size=32).digest()


def _is_signed(key: PublicKey, message: bytes, signature: bytes) -> bool:
    ed25519 = _ed25519()
    from cryptography.exceptions import InvalidSignature  # noqa: PLC0415 - as _ed25519

    try:
        ed25519.Ed25519PublicKey.from_public_bytes(key.key).verify(signature, message)
    except InvalidSignature:
        return False
    return True


def _ed25519() -> ModuleType:
    """Import late: who does not sign needs not install it, and pays no 20 ms at every start."""
    try:
        from cryptography.hazmat.primitives.asymmetric import ed25519  # noqa: PLC0415
    except ImportError as error:
        raise SettingsError("signatures need the package cryptography: pip install 'assetserver[signing]'") from error
    return ed25519


def _lines_of(text: str, what: str) -> list[bytes]:
    try:
        return _split(text.encode(errors="surrogateescape"))
    except UnicodeEncodeError as error:
        raise SignatureError(f"{what} is not text; give the file as minisign wrote it") from error


def _split(content: bytes) -> list[bytes]:
    """Return the lines; each may end with CR LF, the last with nothing."""
    return [line.removesuffix(b"\r") for line in content.removesuffix(b"\n").split(b"\n")]


def _decode(line: bytes, what: str, remedy: str, length: int | None = None) -> bytes:
    """Return what ``line`` is the base64 of; one spelling only, as libsodium has it."""
    try:
        content = binascii.a2b_base64(line, strict_mode=True)
    except ValueError as error:
        raise SignatureError(f"{what} is not base64; {remedy}") from error
    if b64encode(content) != line:
        raise SignatureError(f"{what} is not base64 as it is written; {remedy}")
    if length is not None and len(content) != length:
        raise SignatureError(f"{what} is {len(content)} bytes long, not {length}; {remedy}")
    return content


def _check_comment(comment: bytes) -> None:
    """Refuse what would break the line, or a terminal that shows it."""
    if _CONTROL.search(comment):
        raise SignatureError(f"the trusted comment {_show(comment)} holds control characters; sign with a plain line of text")
    if len(comment) > _LIMIT_COMMENT_BYTES:
        raise SignatureError(f"the trusted comment is {len(comment)} bytes long; minisign reads {_LIMIT_COMMENT_BYTES}")


def _show(content: bytes) -> str:
    return repr(content[:80].decode(errors="backslashreplace"))


def _encode(content: bytes) -> str:
    return b64encode(content).decode()


def _format_key_id(key_id: bytes) -> str:
    return f"{int.from_bytes(key_id, 'little'):016X}"


def _key_id_bytes(key_id: str) -> bytes:
    return int(key_id, 16).to_bytes(8, "little")
