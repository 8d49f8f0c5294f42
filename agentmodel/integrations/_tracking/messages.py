"""What users say, in the shapes in which frameworks and their spans hand it on; imports no framework.

A message is a text (which is the user's), a pair of role and content, an object or mapping with ``role`` or ``type``
and ``content`` or ``parts``, or LangChain's serialized form of one. A content is a text, or parts: texts, and mappings
or objects with ``text``, beside images, files and results of tools, which have no text of the user's.

Here every recorder and the reader of spans look up what was asked for, so that they agree.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

__all__ = ["content_text", "last_request", "user_texts"]

_USER = frozenset({"user", "human"})
_TEXT = frozenset({"text", "input_text", "text-content"})
"""Types of parts that are the user's text: those of the conventions, OpenAI's and PydanticAI's."""


def content_text(content: Any) -> str | None:
    """Return the text of a message's content, its parts joined by line breaks; None if it has none.

    >>> content_text([{"type": "image_url", "image_url": {}}, {"type": "text", "text": "a café near the park"}])
    'a café near the park'
    """
    if not isinstance(content, str):
        parts = content if isinstance(content, list | tuple) else [content]
        content = "\n".join(text for part in parts if (text := _part_text(part)))
    return content.strip() or None


def _part_text(part: Any, *, nested: bool = False) -> str | None:
    if isinstance(part, str):
        return part
    kind = _get(part, "type") or _get(part, "kind")
    if isinstance(kind, str) and kind not in _TEXT:
        return None
    text = _get(part, "text")
    if text is None:
        text = _get(part, "content") if isinstance(kind, str) else _get(part, "parts")
    if isinstance(text, list | tuple) and not nested:
        return "\n".join(each for one in text if (each := _part_text(one, nested=True)))
    return text if isinstance(text, str) else None


def user_texts(messages: Any) -> Iterator[str]:
    """Yield what the user said, from one message or several, in their order; what is no message is passed over.

    >>> list(user_texts([("system", "You help."), {"role": "user", "content": "a café"}]))
    ['a café']
    """
    for one in messages if isinstance(messages, list | tuple) else [messages]:
        if isinstance(one, list) and not (len(one) == 2 and isinstance(one[0], str)):  # LangChain's lists of lists
            yield from filter(None, map(_user_text, one))
        elif (text := _user_text(one)) is not None:
            yield text


def _user_text(message: Any) -> str | None:
    if isinstance(message, str):
        return content_text(message)
    if isinstance(message, list | tuple):
        role, content = message if len(message) == 2 else (None, None)
        return content_text(content) if _is_user(role) else None
    serialized = message.get("kwargs") if isinstance(message, Mapping) else None
    message = serialized if isinstance(serialized, Mapping) else message
    if not _is_user(_get(message, "role") or _get(message, "type")):
        return None
    return content_text(_get(message, "parts") or _get(message, "content"))


def _is_user(role: Any) -> bool:
    role = getattr(role, "value", role)  # of an enumeration
    return isinstance(role, str) and role in _USER


def last_request(messages: Any) -> str | None:
    """Return what the user said last among messages; None if they said nothing."""
    many = messages if isinstance(messages, list | tuple) else [messages]
    return next((text for one in reversed(many) for text in reversed([*user_texts([one])])), None)


def _get(holder: Any, name: str) -> Any:
    """Return an entry of a mapping or an attribute of anything else; None where there is none."""
    return holder.get(name) if isinstance(holder, Mapping) else getattr(holder, name, None)
