-- Add new counts minus old ones to the counts per day and per tool.

-- Compute the change per agent, category and day: new counts minus old ones.
INSERT INTO work_daily (agentid, category, agentver, execution_date, executions,
    successes) SELECT changed.agentid, changed.category, changed.revision, changed.day, changed.executions,
    changed.successes
FROM (SELECT work_execution.agentid AS agentid, work_execution.category AS category,
    coalesce(work_execution.agentver, '') AS revision, coalesce(work_execution.execution_date,
    CAST('0001-01-01' AS DATE)) AS day, CAST(least(greatest(sum(CAST(work_execution.change AS BIGINT)),
    -4000000000000000000), 4000000000000000000) AS BIGINT) AS executions,
    CAST(least(greatest(sum(CAST(work_execution.change * work_execution.success AS BIGINT)),
    -4000000000000000000), 4000000000000000000) AS BIGINT) AS successes
FROM work_execution GROUP BY work_execution.agentid, work_execution.category,
    coalesce(work_execution.agentver, ''), coalesce(work_execution.execution_date,
    CAST('0001-01-01' AS DATE))) AS changed
WHERE changed.executions != 0 OR changed.successes != 0;

-- Add the changes to the daily rollup.
MERGE INTO agent_daily USING work_daily ON agent_daily.agentid = work_daily.agentid
    AND agent_daily.category = work_daily.category AND agent_daily.agentver = work_daily.agentver
    AND agent_daily.execution_date = work_daily.execution_date
    WHEN MATCHED THEN UPDATE SET executions = CAST(least(greatest(agent_daily.executions + work_daily.executions,
    -4000000000000000000), 4000000000000000000) AS BIGINT),
    successes = CAST(least(greatest(agent_daily.successes + work_daily.successes, -4000000000000000000),
    4000000000000000000) AS BIGINT) WHEN NOT MATCHED THEN INSERT (agentid, category, agentver,
    execution_date, executions, successes) VALUES (work_daily.agentid, work_daily.category,
    work_daily.agentver, work_daily.execution_date, work_daily.executions, work_daily.successes);

-- Delete days without executions.
DELETE FROM agent_daily WHERE agent_daily.executions = 0;

-- Compute the change per agent and tool: new counts minus old ones.
INSERT INTO work_tool (agentid, toolid, toolnm, calls, errors, inputtokens,
    outputtokens) SELECT total.agentid, total.toolid, total.toolnm, total.n0, total.n1, total.n2, total.n3
FROM (SELECT work_call.agentid AS agentid, work_call.toolid AS toolid, work_call.toolnm AS toolnm,
    CAST(least(greatest(sum(CAST(work_call.calls AS BIGINT)), -4000000000000000000),
    4000000000000000000) AS BIGINT) AS n0, CAST(least(greatest(sum(CAST(work_call.errors AS BIGINT)),
    -4000000000000000000), 4000000000000000000) AS BIGINT) AS n1,
    CAST(least(greatest(sum(CAST(work_call.inputtokens AS BIGINT)), -4000000000000000000),
    4000000000000000000) AS BIGINT) AS n2, CAST(least(greatest(sum(CAST(work_call.outputtokens AS BIGINT)),
    -4000000000000000000), 4000000000000000000) AS BIGINT) AS n3
FROM work_call GROUP BY work_call.agentid, work_call.toolid, work_call.toolnm) AS total
WHERE total.n0 != 0 OR total.n1 != 0 OR total.n2 != 0 OR total.n3 != 0;

-- Add the changes to the rollup of tools.
MERGE INTO agent_tool USING work_tool ON agent_tool.agentid = work_tool.agentid
    AND agent_tool.toolid = work_tool.toolid AND agent_tool.toolnm = work_tool.toolnm
    WHEN MATCHED THEN UPDATE SET calls = CAST(least(greatest(agent_tool.calls + work_tool.calls,
    -4000000000000000000), 4000000000000000000) AS BIGINT),
    errors = CAST(least(greatest(agent_tool.errors + work_tool.errors, -4000000000000000000),
    4000000000000000000) AS BIGINT),
    inputtokens = CAST(least(greatest(agent_tool.inputtokens + work_tool.inputtokens, -4000000000000000000),
    4000000000000000000) AS BIGINT),
    outputtokens = CAST(least(greatest(agent_tool.outputtokens + work_tool.outputtokens,
    -4000000000000000000), 4000000000000000000) AS BIGINT) WHEN NOT MATCHED THEN INSERT (agentid, toolid,
    toolnm, calls, errors, inputtokens, outputtokens) VALUES (work_tool.agentid, work_tool.toolid,
    work_tool.toolnm, work_tool.calls, work_tool.errors, work_tool.inputtokens, work_tool.outputtokens);

-- Delete tools without calls.
DELETE FROM agent_tool WHERE agent_tool.calls = 0;
