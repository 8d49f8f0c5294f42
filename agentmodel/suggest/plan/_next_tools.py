"""Next tools: which tools an agent in the middle of a run usually calls next."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from agentmodel._values.text import prompt_text
from agentmodel.suggest.plan._plan import Fallback, caution_text
from agentmodel.suggest.plan._texts import LINES, Language, Reason, check_language

__all__ = ["LikelyTool", "NextTools"]


class LikelyTool(BaseModel):
    """A tool that is likely to be called next.

    Attributes:
        agent_id: The agent.
        tool_id: The tool.
        tool: The tool's name in the catalogue.
        probability: How likely it is the next one, provided that the agent calls another of its tools; 0 to 1.
        calls: Its recorded calls by this agent, as of the last publish; None where they were not counted.
        success_share: Share of them that succeeded, 0 to 1; None without calls.
        warning: Why it may fail: it is failing now, or often fails; None where neither is so.
        fallback: What to use if it fails; None where there is no warning, or nothing else is known.

    >>> (tool,) = model.planner.next_tools("USR002", agent_id="AGT002", category="cafe search").tools
    >>> tool.tool, tool.probability, tool.calls, tool.success_share
    ('read_reviews', 1.0, 3, 1.0)
    """

    model_config = ConfigDict(frozen=True)

    agent_id: str
    tool_id: str
    tool: str
    probability: float
    calls: int | None = None
    success_share: float | None = None
    warning: Reason | None = None
    fallback: Fallback | None = None


class NextTools(BaseModel):
    """The tools that an agent is likely to call next; made by `Planner.next_tools`.

    Attributes:
        user_id: The user for whom the agent works.
        agent_id: The agent.
        done: The names of the tools that it called so far, in order.
        tools: The likely ones, the most likely first; empty where nothing is known.
        withheld: Whether they are withheld, as the session's plan is; then there are none, and the text is empty.

    >>> likely = model.planner.next_tools("USR002", agent_id="AGT002", category="cafe search")
    >>> [(tool.tool, tool.probability) for tool in likely.tools], likely.done
    ([('read_reviews', 1.0)], ())
    """

    model_config = ConfigDict(frozen=True)

    user_id: str
    agent_id: str
    done: tuple[str, ...] = ()
    tools: tuple[LikelyTool, ...] = ()
    withheld: bool = False

    def as_prompt(self, *, language: Language = "en") -> str:
        """Return this as one line for a model's context; names are in backticks, as in `Plan.as_prompt`.

        Args:
            language: ``en`` or ``ko``.

        Raises:
            ValidationError: The language is another one.

        >>> likely = model.planner.next_tools("USR002", agent_id="AGT002", category="cafe search")
        >>> print(likely.as_prompt(language="ko"))
        보통 다음에 호출되는 도구: `read_reviews` (100 %, 호출의 100 % 성공).
        """
        check_language(language)
        words = LINES[language]
        if self.withheld:
            return ""
        if not self.tools:
            return words["no next"]
        listed = []
        for each in self.tools:
            seen = (
                "" if each.success_share is None else words["next seen"].format(share=round(100 * each.success_share))
            )
            listed.append(f"{prompt_text(each.tool)} ({round(100 * each.probability)} %{seen})")
        cautions = [
            f" {prompt_text(each.tool)}:{caution_text(each.warning, each.fallback, each.agent_id, language=language)}"
            for each in self.tools
            if each.warning is not None
        ]
        return words["next"].format(tools=", ".join(listed)) + "".join(cautions)
