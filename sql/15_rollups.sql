-- New less old, added to the counts per day and per tool.

-- What changed per agent and day: new less old.
INSERT INTO work_daily (agentid, execution_date, executions, successes) SELECT changed.agentid, changed.day,
    changed.executions, changed.successes
FROM (SELECT work_execution.agentid AS agentid, coalesce(work_execution.execution_date,
    CAST('0001-01-01' AS DATE)) AS day, CAST(sum(work_execution.change) AS BIGINT) AS executions,
    CAST(sum(work_execution.change * work_execution.success) AS BIGINT) AS successes
FROM work_execution GROUP BY work_execution.agentid, coalesce(work_execution.execution_date,
    CAST('0001-01-01' AS DATE))) AS changed
WHERE changed.executions != 0 OR changed.successes != 0;

-- Add it to the daily rollup.
MERGE INTO agent_daily USING work_daily ON agent_daily.agentid = work_daily.agentid
    AND agent_daily.execution_date = work_daily.execution_date
    WHEN MATCHED THEN UPDATE SET executions = agent_daily.executions + work_daily.executions,
    successes = agent_daily.successes + work_daily.successes WHEN NOT MATCHED THEN INSERT (agentid,
    execution_date, executions, successes) VALUES (work_daily.agentid, work_daily.execution_date,
    work_daily.executions, work_daily.successes);

-- A day without executions is no row.
DELETE FROM agent_daily WHERE agent_daily.executions = 0;

-- What changed per agent and tool: new less old.
INSERT INTO work_tool (agentid, toolid, toolnm, calls, errors, inputtokens,
    outputtokens) SELECT total.agentid, total.toolid, total.toolnm, total.n0, total.n1, total.n2, total.n3
FROM (SELECT work_call.agentid AS agentid, work_call.toolid AS toolid, work_call.toolnm AS toolnm,
    CAST(sum(work_call.calls) AS BIGINT) AS n0, CAST(sum(work_call.errors) AS BIGINT) AS n1,
    CAST(sum(work_call.inputtokens) AS BIGINT) AS n2, CAST(sum(work_call.outputtokens) AS BIGINT) AS n3
FROM work_call GROUP BY work_call.agentid, work_call.toolid, work_call.toolnm) AS total
WHERE total.n0 != 0 OR total.n1 != 0 OR total.n2 != 0 OR total.n3 != 0;

-- Add it to the rollup of tools.
MERGE INTO agent_tool USING work_tool ON agent_tool.agentid = work_tool.agentid
    AND agent_tool.toolid = work_tool.toolid AND agent_tool.toolnm = work_tool.toolnm
    WHEN MATCHED THEN UPDATE SET calls = agent_tool.calls + work_tool.calls,
    errors = agent_tool.errors + work_tool.errors,
    inputtokens = agent_tool.inputtokens + work_tool.inputtokens,
    outputtokens = agent_tool.outputtokens + work_tool.outputtokens WHEN NOT MATCHED THEN INSERT (agentid,
    toolid, toolnm, calls, errors, inputtokens, outputtokens) VALUES (work_tool.agentid, work_tool.toolid,
    work_tool.toolnm, work_tool.calls, work_tool.errors, work_tool.inputtokens, work_tool.outputtokens);

-- A tool without calls is no row.
DELETE FROM agent_tool WHERE agent_tool.calls = 0;
