"""Secrets and personal data of every kind that is found, all of them made up, and texts that only look like them."""

from __future__ import annotations

__all__ = ["FORMS", "ORDINARY"]

_TAIL = "abcDEF0123456789ghiJKL0123456789mnoPQR"

FORMS: dict[str, tuple[str, str]] = {
    "OpenAI": ("api_key", f"sk-proj-{_TAIL}"),
    "Anthropic": ("api_key", f"sk-ant-api03-{_TAIL}"),
    "Stripe": ("api_key", "sk_" + "live_" + _TAIL[:24]),
    "GitHub": ("api_key", f"ghp_{_TAIL[:36]}"),
    "GitHub, fine-grained": ("api_key", f"github_pat_{_TAIL}"),
    "GitLab": ("api_key", f"glpat-{_TAIL[:20]}"),
    "Slack": ("api_key", "xox" + "b-123456789012-1234567890123-" + _TAIL[:24]),
    "AWS": ("api_key", "AKIA" + "IOSFODNN7EXAMPLE"),
    "Google": ("api_key", f"AIza{_TAIL[:35]}"),
    "JSON Web Token": ("api_key", "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9P"),
    "npm": ("api_key", f"npm_{_TAIL[:36]}"),
    "Hugging Face": ("api_key", f"hf_{_TAIL[:34]}"),
    "SendGrid": ("api_key", f"SG.{_TAIL[:22]}.{_TAIL}"),
    "private key": ("private_key", "-----BEGIN RSA PRIVATE KEY-----\nMIIEow\n-----END RSA PRIVATE KEY-----"),
    "OpenSSH key": ("private_key", "-----BEGIN OPENSSH PRIVATE KEY-----\nb3Blbn\n-----END OPENSSH PRIVATE KEY-----"),
    "Visa": ("card", "4111111111111111"),
    "Visa in groups": ("card", "4111 1111 1111 1111"),
    "Mastercard": ("card", "5555-5555-5555-4444"),
    "American Express": ("card", "3782 822463 10005"),
    "e-mail": ("email", "mina.kim+test@example.co.kr"),
    "mobile telephone": ("phone", "010-1234-5678"),
    "telephone": ("phone", "02-555-1234"),
    "telephone, abroad": ("phone", "+82 10 1234 5678"),
    "telephone, US": ("phone", "(415) 555-2671"),
    "IBAN": ("iban", "DE89370400440532013000"),
    "IBAN in groups": ("iban", "GB29 NWBK 6016 1331 9268 19"),
    "resident number": ("resident_number", "900101-1234567"),
    "resident number, plain": ("resident_number", "9001011234568"),
    "business number": ("business_number", "124-81-00998"),
}
"""Kind and text of a find, by its name."""

ORDINARY = [
    "Find a café near the stadium that opens before eight and has room for twelve people.",
    "SESS20250614001 PRC001 AGT001 USR001#SESS20250614001",
    "3f2b8c1e-9a77-4d0e-8a31-5c1d2e3f4a5b",
    "2025-06-14T09:00:00.123456+09:00 and 20250614090000 and 20250614090000123456",
    "1718355600 1718355600123 1718355600123456 1706123456789",
    "0.4111111111111111 37.5665, 126.9780 16384.01187445759",
    '{"d": "2025-06-14 09:00:00", "ip": "192.168.100.200", "p": [37.566535, 126.977969]}',
    "order 4111111111111112, total 1,234,567.89, version 1.2.3.4",
    "sk-learn-is-a-library-for-learning npm-install-something-very-long",
    "d41d8cd98f00b204e9800998ecf8427e da39a3ee5e6b4b0d3255bfef95601890afd80709",
    "https://example.com/stores/17?near=park&page=2",
    "@pytest.fixture and user@host and 5@6",
    '{"next_token_count": 12, "keys": ["a"], "tokens": 7, "author": "x"}',
    "the token limit is 4096; the key is on the table; pass the salt",
    "192.168.100.101:8080 255.255.255.255",
    "call_0 toolu_01A09q90qw90lq917835lq9 chatcmpl-9xKZ3f8Qe2",
]
"""Texts without a find."""
