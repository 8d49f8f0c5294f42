"""Any program whose spans follow the GenAI conventions is recorded."""

from opentelemetry import baggage, context, trace
from opentelemetry.sdk.trace import TracerProvider

from agentmodel import AgentModel
from agentmodel.integrations.opentelemetry import AgentModelSpanProcessor

with AgentModel.local() as model:
    provider = TracerProvider()
    provider.add_span_processor(AgentModelSpanProcessor(model, domain="cafes"))
    trace.set_tracer_provider(provider)
    context.attach(baggage.set_baggage("user.id", "kim"))  # whom the calls below work for

    # an instrumented framework makes these spans by itself
    tracer = trace.get_tracer("my program")
    with tracer.start_as_current_span("invoke_agent", attributes={"gen_ai.agent.name": "finder"}):
        told = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.call.arguments": '{"near": "park"}'}
        with tracer.start_as_current_span("execute_tool search", attributes=told):
            pass

    provider.shutdown()  # records what is left, before the model is closed
    (session,) = model.repository.sessions("USRkim")
    for call in model.repository.session_history("USRkim", session.session_id).executions:
        print(call.agent_id, call.tool_name, call.values, "ok" if call.succeeded else call.error_type)
