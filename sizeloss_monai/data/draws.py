"""Random draws that anybody can repeat."""

from __future__ import annotations

import hashlib

__all__ = ["random_key"]


def random_key(*parts: object) -> str:
    """A key to sort by for a random order that depends on the names drawn from alone, on every platform.

    Args:
        parts: what the key depends on, such as the seed and the name of what is drawn; their texts count.

    Returns:
        64 hexadecimal digits, the SHA-256 of the parts.
    """
    return hashlib.sha256("/".join(map(str, parts)).encode()).hexdigest()
