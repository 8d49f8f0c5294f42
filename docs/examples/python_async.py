"""An agent on asyncio: the same names, awaited."""

import asyncio

from agentmodel import AsyncAgentModel


async def main() -> None:
    async with AsyncAgentModel.local() as model:

        @model.tool(agent="finder")
        async def locate(place: str) -> str:
            return f"the {place}, at 37.51, 127.07"

        async def agent(user: str, place: str) -> str:
            async with model.session(user, f"find the {place}") as session:
                found = await locate(place)
                session.succeed()
            return found

        print(await asyncio.gather(agent("mina", "park"), agent("jun", "museum")))
        await model.drain()
        await model.refresh()
        await model.publish()
        plan = await model.suggest("mina", request="find the park please")
        print(plan.as_prompt())


asyncio.run(main())
