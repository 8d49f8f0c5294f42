"""What spans do not tell, a program says beside them: here for every call, and for one user's request."""

from opentelemetry import baggage, context, trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider

from agentmodel import AgentModel
from agentmodel.integrations.opentelemetry import AgentModelSpanProcessor

with AgentModel.local() as model:
    resource = Resource.create({"service.name": "cafes", "gen_ai.agent.version": "7"})
    provider = TracerProvider(resource=resource)
    provider.add_span_processor(AgentModelSpanProcessor(model, agent="finder", category="cafe search"))
    trace.set_tracer_provider(provider)

    told = baggage.set_baggage("user.id", "kim")
    told = baggage.set_baggage("session.id", "table for two", told)
    told = baggage.set_baggage("agentmodel.request", "a café near the park", told)
    token = context.attach(told)
    tool = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "search"}
    with trace.get_tracer("a framework").start_as_current_span("execute_tool search", attributes=tool):
        pass
    context.detach(token)

    provider.shutdown()
    (session,) = model.repository.sessions("USRkim")
    print(session.request, "|", session.category)
    for call in model.repository.session_history("USRkim", session.session_id).executions:
        print(call.agent_id, call.revision, call.tool_name, "ok" if call.succeeded else call.error_type)
