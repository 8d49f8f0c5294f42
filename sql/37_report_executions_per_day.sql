-- List executions per agent and day; without a time the day is 0001-01-01.

SELECT agent_daily.agentid AS agent_id, agent_daily.execution_date AS day,
    CAST(least(greatest(sum(CAST(agent_daily.executions AS BIGINT)), -4000000000000000000),
    4000000000000000000) AS BIGINT) AS executions,
    CAST(least(greatest(sum(CAST(agent_daily.successes AS BIGINT)), -4000000000000000000),
    4000000000000000000) AS BIGINT) AS successes
FROM agent_daily GROUP BY agent_daily.agentid, agent_daily.execution_date ORDER BY agent_daily.agentid,
    agent_daily.execution_date;
