"""The secrets of an encrypted store, and how they seal a text (extra `crypto`).

A text is sealed with AES-256-GCM (NIST SP 800-38D). The nonce is the first 12 bytes of HMAC-SHA256 over place and
plaintext, under a key of its own: no nonce is ever used for two plaintexts, short of a collision of 96 bits, and
sealing a text again for the same place gives the same bytes, so that a store recognises a commit that is repeated.
Both keys of a secret come from HKDF-SHA256 (RFC 5869).
"""

from __future__ import annotations

import base64
import hmac
import re
import secrets
from collections.abc import Iterable, Mapping
from contextlib import suppress

from ..errors import ConfigurationError, FormatError, MissingExtraError, StoreError

try:
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF
except ImportError as missing:
    raise MissingExtraError("cryptography", "crypto") from missing


_NONCE, _TAG = 12, 16
"""Their lengths in bytes."""


class KeyRing:
    """The secrets of a store, by name.

    Args:
        secrets: 32 random bytes each (`KeyRing.new_secret`), by a name of letters, digits, "-" and "_". Names
            are stored with what is sealed, so they must not change.
        current: which one seals what is written from now on; the others open what was sealed before.

    To rotate, add a secret and make it the current one. To retire an old one, copy the store first: turns are
    written once and never sealed again.
    """

    def __init__(self, secrets: Mapping[str, bytes], current: str) -> None:
        if current not in secrets:
            raise ConfigurationError(f"the key ring has no secret {current!r}")
        self.current = current
        self._keys: dict[str, tuple[AESGCM, bytes]] = {}
        for name, secret in secrets.items():
            if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", name):
                raise ConfigurationError(f"{name!r} is no name of a secret: letters, digits, - and _")
            if not isinstance(secret, bytes) or len(secret) != 32:
                raise ConfigurationError(f"the secret {name!r} must be 32 bytes")
            derived = HKDF(SHA256(), 64, None, b"dspy-session store 1").derive(secret)
            self._keys[name] = AESGCM(derived[:32]), derived[32:]

    @staticmethod
    def new_secret() -> bytes:
        """32 random bytes."""
        return secrets.token_bytes(32)

    def seal(self, text: str, place: bytes) -> str:
        """`text`, sealed for a place: name of the secret, ".", and in base64 nonce, ciphertext and tag."""
        cipher, mac = self._keys[self.current]
        plain = text.encode("utf-8")
        nonce = hmac.digest(mac, b"%d " % len(place) + place + plain, "sha256")[:_NONCE]
        sealed = base64.b64encode(nonce + cipher.encrypt(nonce, plain, place))
        return f"{self.current}.{sealed.decode('ascii')}"

    def open(self, sealed: object, places: Iterable[bytes], what: str) -> str:
        """The text that was sealed for one of these places.

        Raises `FormatError` if it was sealed for none of them, and `StoreError` if the secret is not here.
        """
        if not isinstance(sealed, str) or "." not in sealed:
            raise FormatError(f"{what} is not sealed: was the store used without encryption?")
        name, _, text = sealed.partition(".")
        if name not in self._keys:
            raise StoreError(f"{what} is sealed with the secret {name!r}, which the key ring does not have")
        with suppress(ValueError):
            raw = base64.b64decode(text, validate=True)
            for place in places if len(raw) >= _NONCE + _TAG else ():
                with suppress(InvalidTag):
                    cipher, _ = self._keys[name]
                    return cipher.decrypt(raw[:_NONCE], raw[_NONCE:], place).decode("utf-8")
        raise FormatError(f"{what} does not open: it was damaged, moved here from elsewhere, or never ours")
