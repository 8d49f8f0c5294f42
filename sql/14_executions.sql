-- Replace the executions of the affected sessions.

-- Delete the executions of the affected sessions.
DELETE FROM agent_execution USING work_session WHERE agent_execution.userid = work_session.userid
    AND agent_execution.sessionid = work_session.sessionid;

-- Insert them as they are now.
INSERT INTO agent_execution (userid, sessionid, agentid, category, success, calls, first_date,
    execution_date, seconds, process_pattern, tool_sequence, pattern_key, agentver,
    last_time) WITH reported AS
(SELECT session_outcome.userid AS userid, session_outcome.sessionid AS sessionid,
    coalesce(session_outcome.agentid, '') AS agent_id, max(CASE
    WHEN (session_outcome.source = CAST('person' AS VARCHAR(24))) THEN CAST('3' AS VARCHAR(4))
    WHEN (session_outcome.source = CAST('event' AS VARCHAR(20))) THEN CAST('2' AS VARCHAR(4))
    WHEN (session_outcome.source = CAST('evaluator' AS VARCHAR(36))) THEN CAST('1' AS VARCHAR(4)) ELSE CAST('0' AS VARCHAR(4)) END || CASE
    WHEN (coalesce(session_outcome.agentid,
    '') = CAST('' AS VARCHAR(4))) THEN CAST('0' AS VARCHAR(4)) ELSE CAST('1' AS VARCHAR(4)) END || CASE
    WHEN (session_outcome.reporteddt ~ '^[1-9][0-9]{3}(0[1-9]|1[0-2])(0[1-9]|[12][0-9]|3[01])([01][0-9]|2[0-3])[0-5][0-9][0-5][0-9][0-9]{0,6}$') THEN rpad(session_outcome.reporteddt,
    20, '0') ELSE CAST('00000000000000000000' AS VARCHAR(80)) END || CASE
    WHEN (session_outcome.succyn = CAST('N' AS VARCHAR(4))) THEN CAST('1' AS VARCHAR(4)) ELSE CAST('0' AS VARCHAR(4)) END) AS best
FROM session_outcome JOIN work_session ON work_session.userid = session_outcome.userid
    AND work_session.sessionid = session_outcome.sessionid
WHERE session_outcome.source IN (CAST('person' AS VARCHAR(24)), CAST('event' AS VARCHAR(20)),
    CAST('evaluator' AS VARCHAR(36))) AND session_outcome.succyn IN (CAST('Y' AS VARCHAR(4)),
    CAST('N' AS VARCHAR(4))) GROUP BY session_outcome.userid, session_outcome.sessionid,
    coalesce(session_outcome.agentid, ''))
 SELECT whole.userid, whole.sessionid, whole.agentid, coalesce(CASE WHEN (usersession.category = ''
    OR left(usersession.category, 1) = CAST('~' AS VARCHAR(4))) THEN NULL ELSE usersession.category END,
    derived_category.category, '') AS category, CASE
    WHEN (usersession.reviewedsuccyn = CAST('Y' AS VARCHAR(4))) THEN 1
    WHEN (usersession.reviewedsuccyn = CAST('N' AS VARCHAR(4))) THEN 0
    WHEN (right(greatest(coalesce(of_all.best, ''), coalesce(of_agent.best, '')),
    1) = CAST('0' AS VARCHAR(4))) THEN 1 WHEN (right(greatest(coalesce(of_all.best, ''),
    coalesce(of_agent.best, '')), 1) = CAST('1' AS VARCHAR(4))) THEN 0
    WHEN (usersession.sessionsuccyn = CAST('Y' AS VARCHAR(4))) THEN 1
    WHEN (usersession.sessionsuccyn = CAST('N' AS VARCHAR(4))) THEN 0 ELSE whole.ok END AS success,
    whole.calls, whole.first_day, whole.last_day, whole.seconds, whole.process_pattern, whole.tool_sequence,
    md5(whole.userid || '#' || whole.agentid || '#' || md5(coalesce(CASE WHEN (usersession.category = ''
    OR left(usersession.category, 1) = CAST('~' AS VARCHAR(4))) THEN NULL ELSE usersession.category END,
    derived_category.category,
    '')) || '#' || md5(whole.process_pattern) || '#' || md5(whole.tool_sequence)) AS pattern_key,
    coalesce(left(right(whole.version, length(whole.version) - 20), 255), '') AS revision, whole.last_time
FROM (SELECT step.userid AS userid, step.sessionid AS sessionid, step.agentid AS agentid, min(step.ok) AS ok,
    CAST(least(CAST(least(greatest(sum(CAST(step.calls AS BIGINT)), -4000000000000000000),
    4000000000000000000) AS BIGINT), 2147483647) AS INTEGER) AS calls, min(step.first_day) AS first_day,
    max(step.last_day) AS last_day, max(step.last_time) AS last_time, max(step.version) AS version,
    (CAST(sum(step.milliseconds) AS DOUBLE PRECISION) / CAST(1000 AS DOUBLE PRECISION)) AS seconds,
    LISTAGG(CASE WHEN (step.place <= 200) THEN left(step.processid, 80) END,
    '->') WITHIN GROUP (ORDER BY step.place) AS process_pattern, LISTAGG(CASE
    WHEN (step.place <= 200) THEN left(step.label, 80) END,
    '->') WITHIN GROUP (ORDER BY step.place) AS tool_sequence
FROM (SELECT uses.userid AS userid, uses.sessionid AS sessionid, uses.agentid AS agentid,
    uses.processid AS processid, uses.toolid AS toolid, uses.ok AS ok, uses.label AS label,
    uses.number AS number, uses.clock AS clock, uses.first_day AS first_day, uses.last_day AS last_day,
    uses.last_time AS last_time, uses.version AS version, uses.calls AS calls,
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
FROM user_tool_mapping_hist JOIN work_session ON work_session.userid = user_tool_mapping_hist.userid
    AND work_session.sessionid = user_tool_mapping_hist.sessionid
WHERE nullif(user_tool_mapping_hist.status, '') IS NULL OR nullif(user_tool_mapping_hist.status,
    '') IN (CAST('ok' AS VARCHAR(8)), CAST('error' AS VARCHAR(20)),
    CAST('cache_hit' AS VARCHAR(36)))) AS c GROUP BY c.userid, c.sessionid, c.agentid, c.processid,
    c.toolid) AS uses) AS step GROUP BY step.userid, step.sessionid, step.agentid
HAVING min(step.ok) IS NOT NULL) AS whole LEFT OUTER JOIN usersession ON usersession.userid = whole.userid
    AND usersession.sessionid = whole.sessionid LEFT OUTER JOIN (SELECT ranked.userid AS userid,
    ranked.sessionid AS sessionid, ranked.userprompt AS userprompt
FROM (SELECT usersessionprocess.userid AS userid, usersessionprocess.sessionid AS sessionid,
    usersessionprocess.userprompt AS userprompt, row_number() OVER (PARTITION BY usersessionprocess.userid,
    usersessionprocess.sessionid ORDER BY usersessionprocess.processid) AS place
FROM usersessionprocess JOIN usersession ON usersession.userid = usersessionprocess.userid
    AND usersession.sessionid = usersessionprocess.sessionid
    JOIN work_session ON work_session.userid = usersessionprocess.userid
    AND work_session.sessionid = usersessionprocess.sessionid
WHERE coalesce(usersession.userrequest, '') = '' AND coalesce(usersessionprocess.userprompt,
    '') != '') AS ranked
WHERE ranked.place = 1) AS opening ON opening.userid = usersession.userid
    AND opening.sessionid = usersession.sessionid
    LEFT OUTER JOIN derived_category ON derived_category.userid = usersession.userid
    AND derived_category.requestkey = CASE WHEN (CASE WHEN (usersession.category = ''
    OR left(usersession.category,
    1) = CAST('~' AS VARCHAR(4))) THEN NULL ELSE usersession.category END IS NULL) THEN md5(coalesce(nullif(usersession.userrequest,
    ''), opening.userprompt)) END LEFT OUTER JOIN reported AS of_all ON of_all.userid = whole.userid
    AND of_all.sessionid = whole.sessionid AND of_all.agent_id = CAST('' AS VARCHAR(4))
    LEFT OUTER JOIN reported AS of_agent ON of_agent.userid = whole.userid
    AND of_agent.sessionid = whole.sessionid AND whole.agentid = of_agent.agent_id ORDER BY 2, 1;

-- Delete derived categories that no execution has any more.
DELETE FROM derived_category WHERE derived_category.userid IN (SELECT work_session.userid
FROM work_session)
    AND ((derived_category.userid || '#' || derived_category.category) NOT IN (SELECT agent_execution.userid || '#' || agent_execution.category AS anon_1
FROM agent_execution
WHERE agent_execution.userid IN (SELECT work_session.userid
FROM work_session)));

-- Count the calls of the affected sessions as they are now.
INSERT INTO work_call (agentid, toolid, toolnm, calls, errors, inputtokens, outputtokens,
    change) SELECT counted.agentid, counted.toolid, counted.name, counted.calls * 1 AS anon_1,
    counted.errors * 1 AS anon_2, counted.inputs * 1 AS anon_3, counted.outputs * 1 AS anon_4, 1
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

-- Save the executions of the affected sessions as they are now.
INSERT INTO work_execution (userid, sessionid, agentid, category, agentver, success, execution_date,
    pattern_key, change) SELECT agent_execution.userid, agent_execution.sessionid, agent_execution.agentid,
    agent_execution.category, agent_execution.agentver, agent_execution.success,
    agent_execution.execution_date, agent_execution.pattern_key, 1
FROM agent_execution JOIN work_session ON work_session.userid = agent_execution.userid
    AND work_session.sessionid = agent_execution.sessionid;
