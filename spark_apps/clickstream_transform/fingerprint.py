"""Identity of an event: SHA-256 over its present contract fields.

Fields are sorted by name; name and value are UTF-8, each preceded by its length in bytes as 4 bytes
big-endian. A field that is absent leaves no trace, so a new optional field changes no old fingerprint. The
vectors in `fingerprint_vectors.json` pin the result for every implementation.
"""

import hashlib
from collections.abc import Mapping

from clickstream_transform.event_schema import FIELDS

_NAMES = tuple(
    (field.name, len(field.name).to_bytes(4, "big") + field.name.encode())
    for field in sorted(FIELDS, key=lambda field: field.name)
)


def fingerprint(identity: Mapping[str, str]) -> bytes:
    """Return the 32 bytes that identify an event.

    Args:
        identity: the present contract fields by name, each in identity form: eventTime as decimal
        microseconds
            since the epoch, integers in decimal, amount by `amount_identity`, other strings as they are.
    """
    parts = bytearray()
    for name, prefixed_name in _NAMES:
        value = identity.get(name)
        if value is not None:
            encoded = value.encode()
            parts += prefixed_name
            parts += len(encoded).to_bytes(4, "big")
            parts += encoded
    return hashlib.sha256(parts).digest()


def amount_identity(amount: str) -> str:
    """Return an amount without the trailing zeros of its fraction, and without a point that ends it."""
    return amount.rstrip("0").rstrip(".") if "." in amount else amount
