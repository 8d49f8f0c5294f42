"""MCP: the history as tools of any MCP client."""

from __future__ import annotations

from agentmodel.exceptions import MissingExtraError

try:
    from agentmodel.integrations.mcp._server import http_security, mcp_server
except ModuleNotFoundError as error:
    raise MissingExtraError("mcp", "the MCP server", error.name) from error

__all__ = ["http_security", "mcp_server"]
