"""A scripted Messages API on loopback, which the program in the wheel of the Claude Agent SDK asks in place of a model.

It imports nothing but Python, since programs in environments without the project use it too.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

SaidTurn = tuple[Sequence[tuple[str, str, Any]], tuple[int, int]]
"""Calls as (id, tool, arguments), and the tokens read and written."""


class MessagesApi(ThreadingHTTPServer):
    """Asks for the calls of the first turn that a conversation does not have, and then says that it is done.

    Args:
        turns: What the model says.
        inner: What it says in a sub-agent, by a part of the sub-agent's prompt.

    Attributes:
        asked: The messages of each request of the main agent, as JSON.
        results: What the model read of calls, by their ids: the texts of a result.
    """

    daemon_threads = True

    def __init__(self, turns: Sequence[SaidTurn], inner: Mapping[str, Sequence[SaidTurn]] | None = None) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.turns, self.inner = turns, inner or {}
        self.asked: list[str] = []
        self.results: dict[str, str] = {}
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def close(self) -> None:
        """Stop."""
        self.shutdown()
        self.server_close()

    def environment(self, home: object) -> dict[str, str]:
        """Return the environment in which the SDK's program asks this one, and nobody else.

        Args:
            home: An empty folder, in place of the user's.
        """
        return {
            "ANTHROPIC_BASE_URL": f"http://127.0.0.1:{self.server_port}",
            "ANTHROPIC_API_KEY": "none",
            "HOME": str(home),
            "CLAUDE_CONFIG_DIR": f"{home}/.claude",
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
            "DISABLE_AUTOUPDATER": "1",
            "DISABLE_TELEMETRY": "1",
            "ENABLE_TOOL_SEARCH": "false",
        }

    def next(self, body: Any) -> SaidTurn:
        """Return what the model says to a request."""
        blocks = [
            block
            for one in body["messages"]
            if isinstance(one["content"], list)
            for block in one["content"]
            if isinstance(block, dict)
        ]
        system = json.dumps(body.get("system", ""))
        turns = next((turns for prompt, turns in self.inner.items() if prompt in system), None)
        if turns is None and body.get("tools"):
            turns = self.turns
            self.asked.append(json.dumps(body["messages"], ensure_ascii=False))
        for block in blocks:
            if block.get("type") == "tool_result":
                given = block.get("content")
                texts = [given] if isinstance(given, str) else [part.get("text", "") for part in given or ()]
                said = "\n".join(texts).split("<system-reminder>")[0]  # the program adds reminders of its own
                self.results[block["tool_use_id"]] = said.strip()
        had = {block.get("id") for block in blocks}
        return next((turn for turn in turns or () if turn[0][0][0] not in had), ((), (5, 1)))


class _Handler(BaseHTTPRequestHandler):
    server: MessagesApi

    def log_message(self, *args: Any) -> None:
        """Say nothing."""

    def do_HEAD(self) -> None:
        """Be there."""
        self._answer("application/json", b"")

    def do_POST(self) -> None:
        """Say the next turn, whole or as events."""
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if "messages" not in body:
            self._answer("application/json", b"{}")
            return
        calls, (read, wrote) = self.server.next(body)
        blocks: list[dict[str, Any]] = [
            {"type": "tool_use", "id": call_id, "name": name, "input": given} for call_id, name, given in calls
        ] or [{"type": "text", "text": "done"}]
        reason = "tool_use" if calls else "end_turn"
        usage = {"input_tokens": read, "output_tokens": wrote}
        message = {
            "id": f"msg_{calls[0][0] if calls else 'last'}", "type": "message", "role": "assistant",
            "model": body.get("model"), "content": blocks, "stop_reason": reason, "stop_sequence": None, "usage": usage,
        }  # fmt: skip
        if not body.get("stream"):
            self._answer("application/json", json.dumps(message).encode())
            return
        begun = {**message, "content": [], "stop_reason": None, "usage": {**usage, "output_tokens": 0}}
        events: list[dict[str, Any]] = [{"type": "message_start", "message": begun}]
        for index, block in enumerate(blocks):
            empty: dict[str, Any] = {**block, "input": {}} if "input" in block else {**block, "text": ""}
            part = ("input_json_delta", "partial_json", json.dumps(block.get("input")))
            kind, name, value = part if "input" in block else ("text_delta", "text", "done")
            events += [
                {"type": "content_block_start", "index": index, "content_block": empty},
                {"type": "content_block_delta", "index": index, "delta": {"type": kind, name: value}},
                {"type": "content_block_stop", "index": index},
            ]
        stop = {"stop_reason": reason, "stop_sequence": None}
        events += [{"type": "message_delta", "delta": stop, "usage": usage}, {"type": "message_stop"}]
        lines = "".join(f"event: {one['type']}\ndata: {json.dumps(one)}\n\n" for one in events)
        self._answer("text/event-stream", lines.encode())

    def _answer(self, kind: str, body: bytes) -> None:
        self.send_response(200)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
