"""Tools: plain Python functions whose calls are guarded and recorded."""

from __future__ import annotations

from agentmodel.tools._decorator import FunctionTools

__all__ = ["FunctionTools"]
