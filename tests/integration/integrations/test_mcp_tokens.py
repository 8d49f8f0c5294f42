"""Bearer tokens of the MCP server: the file that holds their hashes, read again when it changes."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("mcp", reason="the MCP server is an extra")

from agentmodel.callers import Tokens
from agentmodel.exceptions import ConfigurationError

NOW = datetime(2026, 6, 1, tzinfo=UTC)


def entry(token: str, **told: Any) -> dict[str, Any]:
    """A line of the file."""
    return {"sha256": hashlib.sha256(token.encode()).hexdigest(), "user_id": "USR001", "roles": ["reader"], **told}


def write(path: Path, *entries: dict[str, Any]) -> Path:
    """The file, with these lines."""
    path.write_text(json.dumps(entries), encoding="utf-8")
    return path


def user_of(tokens: Tokens, token: str) -> str | None:
    """Whose token it is."""
    found = asyncio.run(tokens.verify_token(token))
    return None if found is None else found.subject


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "{}",
        '[{"sha256": "a"}]',
        json.dumps([entry("t", user_id="AGT001")]),
        json.dumps([entry("t", roles=["king"])]),
        json.dumps([entry("t", sha256="secret")]),
        json.dumps([entry("t", expires_at="2026-06-01T00:00:00")]),
        json.dumps([entry("t", expires="2026-06-01T00:00:00Z")]),
    ],
)
def test_a_bad_file_is_refused(tmp_path: Path, text: str) -> None:
    """A file that is none, lacks a part, or has an unknown user or role, a bare token or an end without a zone stops the start."""
    path = tmp_path / "tokens.json"
    path.write_text(text, encoding="utf-8")

    with pytest.raises(ConfigurationError, match="cannot be used"):
        Tokens.of_file(path)


def test_what_is_wrong_is_told_with_its_place(tmp_path: Path) -> None:
    """The message names the entry and the field, and no value that may be a secret."""
    path = write(tmp_path / "tokens.json", entry("t"), entry("u", sha256="secret"))

    with pytest.raises(ConfigurationError, match="entry 2, sha256 must match pattern") as refused:
        Tokens.of_file(path)

    assert "secret" not in str(refused.value)


def test_who_a_token_is(tmp_path: Path) -> None:
    """A token names its user and roles; another text names nobody."""
    tokens = Tokens.of_file(write(tmp_path / "tokens.json", entry("one", roles=["reviewer", "reader"])))
    found = asyncio.run(tokens.verify_token("one"))

    assert found is not None
    assert ("USR001", ["reader", "reviewer"]) == (found.subject, found.scopes)
    assert None is user_of(tokens, "two")


def test_a_token_ends(tmp_path: Path) -> None:
    """From its end on a token is refused; one without an end is not."""
    at = [NOW]
    path = write(tmp_path / "tokens.json", entry("short", expires_at=NOW.isoformat()), entry("long"))
    tokens = Tokens.of_file(path, now=lambda: at[0])

    at[0] = NOW - timedelta(microseconds=1)
    assert "USR001" == user_of(tokens, "short")
    at[0] = NOW
    assert (None, "USR001") == (user_of(tokens, "short"), user_of(tokens, "long"))


def test_a_changed_file_counts_at_once(tmp_path: Path) -> None:
    """Tokens that are taken out or put in are refused and taken at the next call, also where the file is replaced."""
    path = write(tmp_path / "tokens.json", entry("one"))
    tokens = Tokens.of_file(path)
    seen = [(user_of(tokens, "one"), user_of(tokens, "two"))]
    write(path, entry("two", user_id="USR002"))
    seen.append((user_of(tokens, "one"), user_of(tokens, "two")))
    replaced = write(tmp_path / "new.json", entry("one"))
    os.utime(replaced, ns=(path.stat().st_mtime_ns,) * 2)  # as a copy keeps it
    replaced.replace(path)
    seen.append((user_of(tokens, "one"), user_of(tokens, "two")))

    assert [("USR001", None), (None, "USR002"), ("USR001", None)] == seen


def test_while_the_file_cannot_be_read_nobody_is_let_in(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A file that is gone or broken refuses every token and is told; mended, it counts again."""
    path = write(tmp_path / "tokens.json", entry("one"))
    tokens = Tokens.of_file(path)
    path.write_text("[", encoding="utf-8")
    broken = user_of(tokens, "one")
    path.unlink()
    gone = user_of(tokens, "one")
    write(path, entry("one"))

    assert (None, None, "USR001") == (broken, gone, user_of(tokens, "one"))
    assert 2 == caplog.text.count("every token is rejected")
