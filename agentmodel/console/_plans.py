"""Plans: what would be suggested for a request of a user, and why."""

from __future__ import annotations

from starlette.responses import Response

from agentmodel.client import AgentModel
from agentmodel.console._entrance import Visit
from agentmodel.console._site import Site
from agentmodel.exceptions import NotFound, ValidationError

__all__ = ["PlanPages"]


class PlanPages:
    """The page of plans.

    Args:
        model: The installation.
        site: Makes the pages.
    """

    def __init__(self, model: AgentModel, site: Site) -> None:
        self._model, self._site = model, site

    def empty(self, visit: Visit) -> Response:
        """Show the form."""
        visit.caller.need("reader", "operator")
        return self._page(visit, {"user": visit.caller.user_id})

    def plan(self, visit: Visit) -> Response:
        """Show the plan for a request; it is logged as a suggestion, as every plan is."""
        visit.caller.need("reader", "operator")
        form = visit.form
        try:
            user = visit.caller.scope(form.get("user") or None, "reader")
            given = {name: form.get(name, "").strip() or None for name in ("request", "category", "domain")}
            plan = self._model.suggest(
                user, request=given["request"], category=given["category"], domain_id=given["domain"]
            )
        except (ValidationError, NotFound) as error:
            return self._page(visit, form, status=422, error=str(error))
        matches = self._model.route(given["request"])[:5] if given["request"] else ()
        return self._page(visit, form, plan=plan, matches=matches)

    def _page(self, visit: Visit, form: dict[str, str], *, status: int = 200, **data: object) -> Response:
        told = {
            "form": dict.fromkeys(("user", "request", "category", "domain"), "") | form,
            "error": "",
            "plan": None,
            "matches": (),
        } | data
        domains = list(self._model.repository.domains())
        return self._site.page(visit.request, "plans.html", visit, status=status, domains=domains, **told)
