-- List the request and the outcome of each session.

WITH reported AS
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
FROM session_outcome
WHERE session_outcome.source IN (CAST('person' AS VARCHAR(24)), CAST('event' AS VARCHAR(20)),
    CAST('evaluator' AS VARCHAR(36))) AND session_outcome.succyn IN (CAST('Y' AS VARCHAR(4)),
    CAST('N' AS VARCHAR(4))) GROUP BY session_outcome.userid, session_outcome.sessionid,
    coalesce(session_outcome.agentid, ''))
 SELECT usersession.userid AS user_id, usersession.sessionid AS session_id, coalesce(usersession.category,
    '') AS category, coalesce(coalesce(nullif(usersession.userrequest, ''), opening.userprompt),
    '') AS request, CASE WHEN (usersession.reviewedsuccyn = CAST('Y' AS VARCHAR(4))) THEN 1
    WHEN (usersession.reviewedsuccyn = CAST('N' AS VARCHAR(4))) THEN 0 WHEN (right(coalesce(reported.best,
    ''), 1) = CAST('0' AS VARCHAR(4))) THEN 1 WHEN (right(coalesce(reported.best, ''),
    1) = CAST('1' AS VARCHAR(4))) THEN 0 WHEN (usersession.sessionsuccyn = CAST('Y' AS VARCHAR(4))) THEN 1
    WHEN (usersession.sessionsuccyn = CAST('N' AS VARCHAR(4))) THEN 0 ELSE agents.ok END AS outcome,
    coalesce(agents.agents, '') AS agent_ids
FROM usersession LEFT OUTER JOIN (SELECT run.userid AS userid, run.sessionid AS sessionid,
    min(run.success) AS ok, LISTAGG(CASE WHEN (run.place <= 100) THEN run.agentid END,
    ',') WITHIN GROUP (ORDER BY CASE WHEN (run.place <= 100) THEN run.agentid END) AS agents
FROM (SELECT agent_execution.userid AS userid, agent_execution.sessionid AS sessionid,
    agent_execution.agentid AS agentid, agent_execution.success AS success,
    row_number() OVER (PARTITION BY agent_execution.userid,
    agent_execution.sessionid ORDER BY agent_execution.agentid) AS place
FROM agent_execution) AS run GROUP BY run.userid,
    run.sessionid) AS agents ON agents.userid = usersession.userid
    AND agents.sessionid = usersession.sessionid LEFT OUTER JOIN (SELECT ranked.userid AS userid,
    ranked.sessionid AS sessionid, ranked.userprompt AS userprompt
FROM (SELECT usersessionprocess.userid AS userid, usersessionprocess.sessionid AS sessionid,
    usersessionprocess.userprompt AS userprompt, row_number() OVER (PARTITION BY usersessionprocess.userid,
    usersessionprocess.sessionid ORDER BY usersessionprocess.processid) AS place
FROM usersessionprocess JOIN usersession ON usersession.userid = usersessionprocess.userid
    AND usersession.sessionid = usersessionprocess.sessionid
WHERE coalesce(usersession.userrequest, '') = '' AND coalesce(usersessionprocess.userprompt,
    '') != '') AS ranked
WHERE ranked.place = 1) AS opening ON opening.userid = usersession.userid
    AND opening.sessionid = usersession.sessionid
    LEFT OUTER JOIN reported ON reported.userid = usersession.userid
    AND reported.sessionid = usersession.sessionid AND reported.agent_id = '' ORDER BY usersession.userid,
    usersession.sessionid;
