-- Executions per agent and day; 0001-01-01 stands for those without a time.

SELECT agent_daily.agentid, agent_daily.execution_date, agent_daily.executions, agent_daily.successes
FROM agent_daily ORDER BY agent_daily.agentid, agent_daily.execution_date;
