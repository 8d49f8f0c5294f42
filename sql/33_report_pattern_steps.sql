-- List the steps of recommended patterns, in order.

SELECT step.pattern_key, step.process_id, step.process_name, step.agent_id, step.tool_id, step.tool_name,
    step.calls, step.successes
FROM (SELECT agent_execution.pattern_key AS pattern_key, step.processid AS process_id,
    coalesce(max(usersessionprocess.procnm), '') AS process_name, step.agentid AS agent_id,
    step.toolid AS tool_id, coalesce(max(named.tool_name), max(step.label)) AS tool_name,
    CAST(least(greatest(sum(CAST(tries.calls AS BIGINT)), -4000000000000000000),
    4000000000000000000) AS BIGINT) AS calls, CAST(least(greatest(sum(CAST(tries.good AS BIGINT)),
    -4000000000000000000), 4000000000000000000) AS BIGINT) AS successes, min(step.place) AS place
FROM agent_execution JOIN (SELECT uses.userid AS userid, uses.sessionid AS sessionid,
    uses.agentid AS agentid, uses.processid AS processid, uses.toolid AS toolid, uses.ok AS ok,
    uses.label AS label, uses.number AS number, uses.clock AS clock, uses.first_day AS first_day,
    uses.last_day AS last_day, uses.last_time AS last_time, uses.version AS version, uses.calls AS calls,
    uses.milliseconds AS milliseconds, row_number() OVER (PARTITION BY uses.userid, uses.sessionid,
    uses.agentid ORDER BY uses.number, uses.clock, uses.processid, uses.toolid) AS place
FROM (SELECT c.userid AS userid, c.sessionid AS sessionid, c.agentid AS agentid, c.processid AS processid,
    c.toolid AS toolid, mod(max(c.attempt * 2 + c.ok), 2) AS ok, coalesce(max(nullif(c.toolnm, '')),
    c.toolid) AS label, min(coalesce(c.callno, 4611686018427387904)) AS number, min(coalesce(c.clock,
    CAST('99999999999999999999' AS VARCHAR(80)))) AS clock, min(c.day) AS first_day, max(c.day) AS last_day,
    max(c.clock) AS last_time, max(coalesce(c.clock,
    CAST('00000000000000000000' AS VARCHAR(80))) || c.revision) AS version, count(c.ok) AS calls,
    sum(c.durationms) AS milliseconds
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
    '') IN (CAST('ok' AS VARCHAR(8)), CAST('error' AS VARCHAR(20)),
    CAST('cache_hit' AS VARCHAR(36)))) AS c GROUP BY c.userid, c.sessionid, c.agentid, c.processid,
    c.toolid) AS uses) AS step ON agent_execution.userid = step.userid
    AND agent_execution.sessionid = step.sessionid AND agent_execution.agentid = step.agentid
    JOIN (SELECT c.userid AS userid, c.sessionid AS sessionid, c.agentid AS agentid,
    c.processid AS processid, c.toolid AS toolid, count(c.ok) AS calls,
    CAST(least(greatest(sum(CAST(coalesce(c.ok, 0) AS BIGINT)), -4000000000000000000),
    4000000000000000000) AS BIGINT) AS good
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
    '') IN (CAST('ok' AS VARCHAR(8)), CAST('error' AS VARCHAR(20)),
    CAST('cache_hit' AS VARCHAR(36)))) AS c GROUP BY c.userid, c.sessionid, c.agentid, c.processid,
    c.toolid) AS tries ON tries.userid = step.userid AND tries.sessionid = step.sessionid
    AND tries.agentid = step.agentid AND tries.processid = step.processid AND tries.toolid = step.toolid
    LEFT OUTER JOIN usersessionprocess ON usersessionprocess.userid = step.userid
    AND usersessionprocess.sessionid = step.sessionid AND usersessionprocess.processid = step.processid
    LEFT OUTER JOIN (SELECT agent_tool.agentid AS agentid, agent_tool.toolid AS toolid,
    coalesce(nullif(max(tool.toolnm), ''), nullif(max(agent_tool.toolnm), ''), agent_tool.toolid) AS tool_name
FROM agent_tool LEFT OUTER JOIN tool ON tool.agentid = agent_tool.agentid
    AND tool.toolid = agent_tool.toolid GROUP BY agent_tool.agentid,
    agent_tool.toolid) AS named ON named.agentid = step.agentid AND named.toolid = step.toolid
WHERE agent_execution.pattern_key IN (SELECT user_process_patterns.pattern_key
FROM user_process_patterns
WHERE user_process_patterns.is_recommended IS true) GROUP BY agent_execution.pattern_key, step.processid,
    step.agentid, step.toolid) AS step ORDER BY step.pattern_key, step.place, step.process_id, step.tool_id;
