"""Tools in a thread pool: the calls belong to the session of the block."""

from concurrent.futures import ThreadPoolExecutor

from agentmodel import AgentModel

with AgentModel.local() as model:

    @model.tool(agent="finder")
    def search(near: str) -> str:
        return f"a café near {near}"

    with model.session("USRkim", "find cafés") as session, ThreadPoolExecutor(2) as pool:
        print(list(pool.map(model.in_session(search), ["the park", "the station"])))

    history = model.repository.session_history("USRkim", session.session_id)
    print(len(history.executions), "calls in the session of", session.user_id)
