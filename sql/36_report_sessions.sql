-- List the request and the outcome of each session.

SELECT usersession.userid AS user_id, usersession.sessionid AS session_id, coalesce(usersession.category,
    '') AS category, coalesce(coalesce(nullif(usersession.userrequest, ''), opening.userprompt),
    '') AS request, CASE WHEN (usersession.reviewedsuccyn = CAST('Y' AS VARCHAR(4))) THEN 1
    WHEN (usersession.reviewedsuccyn = CAST('N' AS VARCHAR(4))) THEN 0
    WHEN (usersession.sessionsuccyn = CAST('Y' AS VARCHAR(4))) THEN 1
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
    AND opening.sessionid = usersession.sessionid ORDER BY usersession.userid, usersession.sessionid;
