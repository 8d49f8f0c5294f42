-- List calls and errors of each tool, and its last error.

SELECT agent.domainid AS domain_id, agent.agentid AS agent_id, coalesce(nullif(agent.agentnm, ''),
    agent.agentid) AS agent_name, agent_tool.toolid AS tool_id, named.tool_name,
    CAST(least(greatest(sum(CAST(agent_tool.calls AS BIGINT)), -4000000000000000000),
    4000000000000000000) AS BIGINT) AS calls, CAST(least(greatest(sum(CAST(agent_tool.errors AS BIGINT)),
    -4000000000000000000), 4000000000000000000) AS BIGINT) AS errors,
    (CAST(CAST(least(greatest(sum(CAST(agent_tool.errors AS BIGINT)), -4000000000000000000),
    4000000000000000000) AS BIGINT) AS DOUBLE PRECISION) / CAST(CAST(least(greatest(sum(CAST(agent_tool.calls AS BIGINT)),
    -4000000000000000000), 4000000000000000000) AS BIGINT) AS DOUBLE PRECISION)) AS error_rate,
    max(f.transactdt) AS last_error_at, max(f.resultmsg) AS last_message, max(md5(f.userid)) AS last_error_by
FROM agent_tool JOIN agent ON agent.agentid = agent_tool.agentid JOIN (SELECT agent_tool.agentid AS agentid,
    agent_tool.toolid AS toolid, coalesce(nullif(max(tool.toolnm), ''), nullif(max(agent_tool.toolnm), ''),
    agent_tool.toolid) AS tool_name
FROM agent_tool LEFT OUTER JOIN tool ON tool.agentid = agent_tool.agentid
    AND tool.toolid = agent_tool.toolid GROUP BY agent_tool.agentid,
    agent_tool.toolid) AS named ON named.agentid = agent_tool.agentid AND named.toolid = agent_tool.toolid
    LEFT OUTER JOIN (SELECT c.agentid AS agentid, c.toolid AS toolid, c.transactdt AS transactdt,
    c.resultmsg AS resultmsg, c.userid AS userid, row_number() OVER (PARTITION BY c.agentid,
    c.toolid ORDER BY coalesce(c.clock, '') DESC, c.userid DESC, c.sessionid DESC, coalesce(c.callno,
    0) DESC, c.processid DESC, c.attempt DESC) AS place
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
FROM user_tool_mapping_hist
WHERE nullif(user_tool_mapping_hist.status, '') IS NULL OR nullif(user_tool_mapping_hist.status,
    '') IN (CAST('ok' AS VARCHAR(8)), CAST('error' AS VARCHAR(20)))) AS c
WHERE c.ok = 0) AS f ON f.agentid = agent_tool.agentid AND f.toolid = agent_tool.toolid AND f.place = 1
WHERE agent.domainid IS NOT NULL GROUP BY agent.domainid, agent.agentid, agent.agentnm, agent_tool.toolid,
    named.tool_name ORDER BY CAST(least(greatest(sum(CAST(agent_tool.errors AS BIGINT)),
    -4000000000000000000), 4000000000000000000) AS BIGINT) DESC, agent.agentid, agent_tool.toolid;
