-- What each session was asked for, and how it went.

SELECT usersession.userid, usersession.sessionid, coalesce(usersession.category, '') AS category,
    coalesce(usersession.userrequest, opening.userprompt, '') AS request, CASE
    WHEN (usersession.reviewedsuccyn = CAST('Y' AS VARCHAR(4))) THEN 1
    WHEN (usersession.reviewedsuccyn = CAST('N' AS VARCHAR(4))) THEN 0
    WHEN (usersession.sessionsuccyn = CAST('Y' AS VARCHAR(4))) THEN 1
    WHEN (usersession.sessionsuccyn = CAST('N' AS VARCHAR(4))) THEN 0 ELSE agents.ok END AS outcome,
    coalesce(agents.agents, '') AS agents
FROM usersession LEFT OUTER JOIN (SELECT agent_execution.userid AS userid,
    agent_execution.sessionid AS sessionid, min(agent_execution.success) AS ok,
    LISTAGG(agent_execution.agentid, ',') WITHIN GROUP (ORDER BY agent_execution.agentid) AS agents
FROM agent_execution GROUP BY agent_execution.userid,
    agent_execution.sessionid) AS agents ON agents.userid = usersession.userid
    AND agents.sessionid = usersession.sessionid LEFT OUTER JOIN (SELECT usersessionprocess.userid AS userid,
    usersessionprocess.sessionid AS sessionid, usersessionprocess.userprompt AS userprompt,
    row_number() OVER (PARTITION BY usersessionprocess.userid,
    usersessionprocess.sessionid ORDER BY usersessionprocess.processid) AS place
FROM usersessionprocess) AS opening ON opening.userid = usersession.userid
    AND opening.sessionid = usersession.sessionid AND opening.place = 1 ORDER BY usersession.userid,
    usersession.sessionid;
