"""Review: people approve a risky step before it is taken, and judge a run after it has ended.

>>> question = model.reviews.ask("USR296", "SESS1", "Book a table?")
>>> question.queue == DEFAULT_QUEUE
True
"""

from __future__ import annotations

from agentmodel.suggest._run_check import RunCheck, WrongStep
from agentmodel.suggest.review._decision import Answer, Decision, arguments_hash
from agentmodel.suggest.review._decision import answer_of as answer_of
from agentmodel.suggest.review._decision import canonical as canonical
from agentmodel.suggest.review._decision import status_now as status_now
from agentmodel.suggest.review._policy import ReviewPolicy
from agentmodel.suggest.review._policy import approval_reason as approval_reason
from agentmodel.suggest.review._reviews import DEFAULT_QUEUE, Reviews
from agentmodel.suggest.review._run_checks import MadeCall as MadeCall
from agentmodel.suggest.review._run_checks import RunChecks
from agentmodel.suggest.review._run_checks import sorted_arguments as sorted_arguments
from agentmodel.suggest.review._run_checks import write_history as write_history
from agentmodel.suggest.review._state import check_decision as check_decision
from agentmodel.suggest.review._state import check_terms as check_terms
from agentmodel.suggest.review._webhook import ReviewWebhook as ReviewWebhook

__all__ = [
    "DEFAULT_QUEUE",
    "Answer",
    "Decision",
    "ReviewPolicy",
    "Reviews",
    "RunCheck",
    "RunChecks",
    "WrongStep",
    "arguments_hash",
]
