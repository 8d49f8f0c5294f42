-- Count the affected sessions as they were.

-- Count the calls of the affected sessions as they were, negative.
INSERT INTO work_call (agentid, toolid, toolnm, calls, errors, inputtokens, outputtokens,
    change) SELECT counted.agentid, counted.toolid, counted.name, counted.calls * -1 AS anon_1,
    counted.errors * -1 AS anon_2, counted.inputs * -1 AS anon_3, counted.outputs * -1 AS anon_4, -1
FROM (SELECT c.agentid AS agentid, c.toolid AS toolid, coalesce(c.toolnm, '') AS name, count(*) AS calls,
    CAST(least(greatest(sum(CAST(1 - c.ok AS BIGINT)), -4000000000000000000),
    4000000000000000000) AS BIGINT) AS errors, CAST(least(greatest(sum(CAST(coalesce(c.inputtokens,
    0) AS BIGINT)), -4000000000000000000), 4000000000000000000) AS BIGINT) AS inputs,
    CAST(least(greatest(sum(CAST(coalesce(c.outputtokens, 0) AS BIGINT)), -4000000000000000000),
    4000000000000000000) AS BIGINT) AS outputs
FROM (SELECT user_tool_mapping_hist.userid AS userid, user_tool_mapping_hist.sessionid AS sessionid,
    user_tool_mapping_hist.processid AS processid, user_tool_mapping_hist.agentid AS agentid,
    user_tool_mapping_hist.toolid AS toolid, user_tool_mapping_hist.attempt AS attempt,
    user_tool_mapping_hist.toolnm AS toolnm, CASE WHEN (nullif(user_tool_mapping_hist.status,
    '') = CAST('ok' AS VARCHAR(8))) THEN 1 WHEN (nullif(user_tool_mapping_hist.status,
    '') = CAST('error' AS VARCHAR(20))) THEN 0 WHEN (nullif(user_tool_mapping_hist.status,
    '') = CAST('cache_hit' AS VARCHAR(36))) THEN NULL
    WHEN (user_tool_mapping_hist.succyn = CAST('Y' AS VARCHAR(4))) THEN 1 ELSE 0 END AS ok, CASE
    WHEN (user_tool_mapping_hist.transactdt ~ '^[1-9][0-9]{3}(0[1-9]|1[0-2])(0[1-9]|[12][0-9]|3[01])([01][0-9]|2[0-3])[0-5][0-9][0-5][0-9][0-9]{0,6}$') THEN CASE
    WHEN TO_CHAR(TO_DATE(left(user_tool_mapping_hist.transactdt, 8), 'YYYYMMDD'),
    'YYYYMMDD') = left(user_tool_mapping_hist.transactdt,
    8) THEN TO_DATE(left(user_tool_mapping_hist.transactdt, 8), 'YYYYMMDD') END ELSE NULL END AS day, CASE
    WHEN (user_tool_mapping_hist.transactdt ~ '^[1-9][0-9]{3}(0[1-9]|1[0-2])(0[1-9]|[12][0-9]|3[01])([01][0-9]|2[0-3])[0-5][0-9][0-5][0-9][0-9]{0,6}$') THEN rpad(user_tool_mapping_hist.transactdt,
    20, '0') END AS clock, user_tool_mapping_hist.callno AS callno,
    user_tool_mapping_hist.durationms AS durationms, user_tool_mapping_hist.inputtokens AS inputtokens,
    user_tool_mapping_hist.outputtokens AS outputtokens, user_tool_mapping_hist.cachedtokens AS cachedtokens,
    user_tool_mapping_hist.cachewritetokens AS cachewritetokens,
    user_tool_mapping_hist.reasoningtokens AS reasoningtokens, user_tool_mapping_hist.modelnm AS modelnm,
    user_tool_mapping_hist.requestinputtokens AS requestinputtokens,
    user_tool_mapping_hist.transactdt AS transactdt, user_tool_mapping_hist.toolvalues AS toolvalues,
    user_tool_mapping_hist.resultmsg AS resultmsg, nullif(user_tool_mapping_hist.agentver, '') AS revision
FROM user_tool_mapping_hist JOIN work_session ON work_session.userid = user_tool_mapping_hist.userid
    AND work_session.sessionid = user_tool_mapping_hist.sessionid
WHERE nullif(user_tool_mapping_hist.status, '') IS NULL OR nullif(user_tool_mapping_hist.status,
    '') IN (CAST('ok' AS VARCHAR(8)), CAST('error' AS VARCHAR(20)))) AS c GROUP BY c.agentid, c.toolid,
    coalesce(c.toolnm, '')) AS counted;

-- Save the executions of the affected sessions as they were.
INSERT INTO work_execution (userid, sessionid, agentid, category, agentver, success, execution_date,
    pattern_key, change) SELECT agent_execution.userid, agent_execution.sessionid, agent_execution.agentid,
    agent_execution.category, agent_execution.agentver, agent_execution.success,
    agent_execution.execution_date, agent_execution.pattern_key, -1
FROM agent_execution JOIN work_session ON work_session.userid = agent_execution.userid
    AND work_session.sessionid = agent_execution.sessionid;
