"""Signatures of requests: 512 bits of a text's letters, which differ in few bits where the letters differ little.

Each different n-gram of the letters without blanks (3 letters; 2 where a letter is a syllable or a word) is hashed to
512 bits. A bit of the signature is set where it is set in more than half of the hashes. So a signature depends on its
text alone: a new text moves no other one.
"""

from __future__ import annotations

from hashlib import blake2b

from agentmodel._values.text import FIRST_SYLLABLE, words_of

__all__ = ["BYTES", "letters_of", "sign"]

BYTES = 64
"""The length of a signature."""

_BITS = 8 * BYTES
_MAX_LETTERS = 1_000  # of a text; a request that is kept has at most 500
_MAX_KNOWN = 20_000  # hashes that are cached, a kilobyte each
_ONES = int("0001" * _BITS, 16)  # a one in each lane of 16 bits
_AS_DIGIT = bytes(ord("1") if byte & 0x80 else ord("0") for byte in range(256))


_known: dict[str, int] = {}


def letters_of(text: str) -> str:
    """Return the letters and digits of a text, without blanks.

    >>> letters_of("잠실 종합 운동장")
    '잠실종합운동장'
    """
    return "".join(words_of(text))


def sign(letters: str) -> bytes:
    """Return the signature of the letters of a text.

    >>> one, other = (int.from_bytes(sign(letters_of(text))) for text in ("find a quiet café", "Find a quiet cafe!!"))
    >>> (one ^ other).bit_count()
    0
    """
    letters = letters[:_MAX_LETTERS]
    starts = range(max(len(letters) - 1, 1)) if letters else ()
    grams = {letters[at : at + (2 if letters[at] >= FIRST_SYLLABLE else 3)] for at in starts}
    hashes = [_hash(gram) for gram in grams]
    # all lanes are counted by one sum, and compared by another one, which sets the first bit where most hashes had one
    counts = sum(hashes) + (0x8000 - len(hashes) // 2 - 1) * _ONES
    return int(counts.to_bytes(2 * _BITS)[::2].translate(_AS_DIGIT), 2).to_bytes(BYTES)


def _hash(gram: str) -> int:
    """Return the hash of an n-gram, each bit in a lane of 16 bits."""
    known = _known.get(gram)
    if known is None:
        bits = f"{int.from_bytes(blake2b(gram.encode(errors='replace'), digest_size=BYTES).digest()):0{_BITS}b}"
        known = int(bits.replace("0", "0000").replace("1", "0001"), 16)
        if len(_known) >= _MAX_KNOWN:
            _known.clear()
        _known[gram] = known
    return known
