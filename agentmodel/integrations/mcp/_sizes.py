"""The size of an answer: texts are cut and pages end so that no answer has more characters than a setting says.

An answer has its content twice, as structured content and as text with the same JSON in it, so a character of a record
costs two, and a quotation mark up to six. What is counted is what is sent.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from typing import Any, TypeVar, overload

from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp.shared.exceptions import MCPError
from pydantic import BaseModel
from pydantic import ValidationError as Invalid
from pydantic_core import to_json

from agentmodel._log import logger
from agentmodel._values.text import one_line, type_name
from agentmodel.exceptions import ValidationError
from agentmodel.integrations.mcp._schemas import TextPart

__all__ = ["AnswerSize", "cut_text"]

_log = logger("agentmodel.mcp")

_ENVELOPE = 600  # characters of JSON-RPC and of what the protocol adds to a result
_ERROR_CHARACTERS = 2000  # of the message of an error
_LINE_CHARACTERS = 1000
_PARTS = 8  # a long text gets one of so many parts of an answer
_SHORTEST = 50

A = TypeVar("A", bound=BaseModel)
T = TypeVar("T")


def _cost(text: str) -> int:
    """Return how many characters of an answer a text takes."""
    once = json.dumps(text, ensure_ascii=False)
    return len(once) + len(json.dumps(once, ensure_ascii=False)) - 2


def cut_text(text: str, most: int, *, hint: Callable[[int], str]) -> str:
    """Return a text that takes at most so many characters of an answer, with a word on how to get the rest.

    Args:
        text: The text.
        most: The most characters that it may take, both times together.
        hint: Returns that word for the number of characters that are left.
    """
    if 6 * len(text) <= most or _cost(text) <= most:
        return text
    low, high = 0, min(len(text), most)
    while low < high:  # the longest beginning that fits
        middle = (low + high + 1) // 2
        low, high = (middle, high) if _cost(text[:middle] + hint(middle)) <= most else (low, middle - 1)
    return text[:low] + hint(low)


class AnswerSize:
    """Holds answers below a number of characters.

    Args:
        characters: The most characters of an answer, as it is sent.
    """

    def __init__(self, characters: int) -> None:
        self.characters = characters
        self._most = characters - _ENVELOPE

    @property
    def text(self) -> int:
        """Return how much of an answer a long text may take."""
        return self._most // _PARTS

    def fits(self, answer: BaseModel) -> bool:
        """Return whether an answer can be sent as it is."""
        return _size(answer) <= self._most

    def fits_part(self, part: BaseModel) -> bool:
        """Return whether a part of an answer leaves room for others."""
        return _size(part) <= self._most // 4

    def cut(self, text: str, tool: str, name: str) -> str:
        """Return a long text as one part of an answer, with how to get the rest.

        Args:
            text: The text.
            tool: The tool that returns the rest.
            name: What that tool calls the text.
        """
        return cut_text(text, self.text, hint=lambda start: _rest(tool, name, start, len(text)))

    @overload
    def line(self, text: str, tool: str, name: str) -> str: ...

    @overload
    def line(self, text: str | None, tool: str, name: str) -> str | None: ...

    def line(self, text: str | None, tool: str, name: str) -> str | None:
        """Return the beginning of a text on one line, with how to get the rest; see `cut`."""
        if text is None:
            return None
        line = one_line(text, longest=_LINE_CHARACTERS)
        return line if len(text) <= _LINE_CHARACTERS else f"{line} {_rest(tool, name, 0, len(text))}"

    def part(self, name: str, text: str, offset: int) -> TextPart:
        """Return as much of a text from an offset on as fits into an answer."""
        content = cut_text(text[offset:], self._most - 6 * len(name) - _ENVELOPE, hint=lambda _: "")
        after = offset + len(content)
        return TextPart(
            name=name,
            offset=offset,
            content=content,
            characters=len(text),
            next_offset=after if after < len(text) else None,
        )

    def page(self, limit: int, page: Callable[[int], A]) -> A:
        """Return a page with so few rows that it can be sent.

        Args:
            limit: The most rows.
            page: Returns the page with at most so many rows.
        """
        found = page(limit)
        while limit > 1 and not self.fits(found):
            limit //= 2
            found = page(limit)
        return self.shortened(found)

    def slice(self, rows: Sequence[T], cursor: str | None, answer: Callable[[Sequence[T], str | None], A]) -> A:
        """Return a page of rows that are all known; its cursor is the number of the next row.

        Args:
            rows: All rows, in an order that stays.
            cursor: The cursor of the page before.
            answer: Returns the answer with some rows and the cursor after them.

        Raises:
            ValidationError: The cursor is not one of these.
        """
        if cursor is not None and not re.fullmatch("[0-9]{1,9}", cursor):
            raise ValidationError("cursor", cursor, "must be the cursor of the page before")
        start = int(cursor or 0)
        count = self.rows(rows[start:], lambda some: answer(some, str(len(rows))))
        after = start + count
        return self.shortened(answer(rows[start:after], str(after) if after < len(rows) else None))

    def rows(self, rows: Sequence[T], answer: Callable[[Sequence[T]], BaseModel]) -> int:
        """Return how many of these rows fit into an answer; at least one, so that the next page goes on.

        Args:
            rows: The rows.
            answer: Returns the answer with some of them.
        """
        low, high = min(1, len(rows)), len(rows)
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if self.fits(answer(rows[:middle])) else (low, middle - 1)
        return low

    def shortened(self, answer: A) -> A:
        """Return an answer with its texts cut until it can be sent; for what has no pages, or one large row."""
        most = self.text
        while not self.fits(answer) and most >= _SHORTEST:
            answer = type(answer).model_validate(_shortened(answer.model_dump(), most))
            most //= 2
        return answer

    async def hold(self, ctx: ServerRequestContext[Any, Any], call_next: CallNext) -> HandlerResult:
        """Hold every answer below the number of characters, errors too; a middleware of the server."""
        try:
            result = await call_next(ctx)
        except MCPError as error:
            data = error.error.data
            if len(error.error.message) + len(json.dumps(data, default=str)) <= _ERROR_CHARACTERS:
                raise
            raise MCPError(code=error.error.code, message=_beginning(error.error.message)) from None
        except Invalid:
            raise  # the SDK answers it in a few words
        except Exception as error:  # noqa: BLE001  # such as a prompt that does not exist, with the name that was sent
            _log.warning("mcp.failed method=%s: %s", ctx.method, type_name(error))  # the SDK logs every frame of it
            raise MCPError(code=-32603, message=f"{ctx.method} failed: this server cannot answer it") from None
        if not isinstance(result, dict):
            return result
        if result.get("isError"):
            content = [part | {"text": _beginning(part.get("text", ""))} for part in result.get("content", ())[:1]]
            return result | {"content": content}
        found = len(json.dumps(result, ensure_ascii=False))
        if found <= self.characters - _ENVELOPE // 2:
            return result
        message = f"the answer has {found} characters, and this server sends at most {self.characters}: ask for less"
        if ctx.method != "tools/call":
            raise MCPError(code=-32603, message=message)
        kept = {name: value for name, value in result.items() if name != "structuredContent"}
        return kept | {"content": [{"type": "text", "text": message}], "isError": True}


def _rest(tool: str, name: str, start: int, characters: int) -> str:
    return f"… [cut, {characters} characters; {tool} returns the rest: text={json.dumps(name)}, offset={start}]"


def _size(answer: BaseModel) -> int:
    """Return how many characters an answer has as structured content and as text."""
    structured = json.dumps(answer.model_dump(mode="json"), ensure_ascii=False)
    text = to_json(answer, indent=2, fallback=str).decode()
    return len(structured) + len(json.dumps(text, ensure_ascii=False))


def _shortened(value: Any, most: int) -> Any:
    """Return a value with every text in it cut."""
    if isinstance(value, str):
        return cut_text(value, most, hint=lambda _: f"… [cut, {len(value)} characters]")
    if isinstance(value, dict):
        return {name: _shortened(one, most) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_shortened(one, most) for one in value]
    return value


def _beginning(message: str) -> str:
    if len(message) <= _ERROR_CHARACTERS:
        return message
    return f"{message[:_ERROR_CHARACTERS]}… [cut, {len(message)} characters]"
