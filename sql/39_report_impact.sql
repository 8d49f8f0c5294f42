-- Count sessions whose plan was given or withheld at random, and sum up their costs.

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
 SELECT c.domainid, c.category, c.holdoutshare, c.since, c.withheldyn, min(c.started) AS min_1,
    count(*) AS count_1, CAST(least(greatest(sum(CAST(c.success AS BIGINT)), -4000000000000000000),
    4000000000000000000) AS BIGINT) AS least_1, count(c.calls) AS count_2, coalesce(sum(c.calls),
    0) AS coalesce_1, coalesce(sum(c.calls_log), 0) AS coalesce_2, coalesce(sum(c.calls_log * c.calls_log),
    0) AS coalesce_3, count(c.tokens) AS count_3, coalesce(sum(c.tokens), 0) AS coalesce_4,
    coalesce(sum(c.tokens_log), 0) AS coalesce_5, coalesce(sum(c.tokens_log * c.tokens_log),
    0) AS coalesce_6, count(c.seconds) AS count_4, coalesce(sum(c.seconds), 0) AS coalesce_7,
    coalesce(sum(c.seconds_log), 0) AS coalesce_8, coalesce(sum(c.seconds_log * c.seconds_log),
    0) AS coalesce_9, count(c.money) AS count_5, coalesce(sum(c.money), 0) AS coalesce_10,
    coalesce(sum(c.money_log), 0) AS coalesce_11, coalesce(sum(c.money_log * c.money_log), 0) AS coalesce_12
FROM (SELECT session.domainid AS domainid, session.category AS category,
    session.holdoutshare AS holdoutshare, session.since AS since, session.withheldyn AS withheldyn,
    session.started AS started, session.success AS success, session.calls AS calls, session.tokens AS tokens,
    session.seconds AS seconds, session.money AS money,
    CAST(ln(1 + session.calls) AS DOUBLE PRECISION) AS calls_log,
    CAST(ln(1 + session.tokens) AS DOUBLE PRECISION) AS tokens_log,
    CAST(ln(1 + session.seconds) AS DOUBLE PRECISION) AS seconds_log,
    CAST(ln(1 + session.money) AS DOUBLE PRECISION) AS money_log
FROM (SELECT asked.domainid AS domainid, coalesce(run.category, CASE WHEN (usersession.category = ''
    OR left(usersession.category, 1) = CAST('~' AS VARCHAR(4))) THEN NULL ELSE usersession.category END,
    '') AS category, asked.holdoutshare AS holdoutshare, coalesce(asked.planssincedt, '') AS since,
    asked.withheldyn AS withheldyn, coalesce(usersession.sessionstartdt, '') AS started, CASE
    WHEN (usersession.reviewedsuccyn = CAST('Y' AS VARCHAR(4))) THEN 1
    WHEN (usersession.reviewedsuccyn = CAST('N' AS VARCHAR(4))) THEN 0 WHEN (right(coalesce(reported.best,
    ''), 1) = CAST('0' AS VARCHAR(4))) THEN 1 WHEN (right(coalesce(reported.best, ''),
    1) = CAST('1' AS VARCHAR(4))) THEN 0 WHEN (usersession.sessionsuccyn = CAST('Y' AS VARCHAR(4))) THEN 1
    WHEN (usersession.sessionsuccyn = CAST('N' AS VARCHAR(4))) THEN 0 ELSE run.ok END AS success,
    CAST(coalesce(run.calls, 0) AS DOUBLE PRECISION) AS calls, CAST(tokens.n AS DOUBLE PRECISION) AS tokens,
    CAST(CASE WHEN (CAST(EXTRACT(epoch FROM CASE
    WHEN (usersession.sessionenddt ~ '^[1-9][0-9]{3}(0[1-9]|1[0-2])(0[1-9]|[12][0-9]|3[01])([01][0-9]|2[0-3])[0-5][0-9][0-5][0-9][0-9]{0,6}$') THEN CASE
    WHEN TO_CHAR(CAST(TO_TIMESTAMP(left(usersession.sessionenddt, 14), 'YYYYMMDDHH24MISS') AS TIMESTAMP),
    'YYYYMMDDHH24MISS') = left(usersession.sessionenddt,
    14) THEN CAST(TO_TIMESTAMP(left(usersession.sessionenddt, 14),
    'YYYYMMDDHH24MISS') AS TIMESTAMP) END ELSE NULL END) AS BIGINT) >= CAST(EXTRACT(epoch FROM CASE
    WHEN (usersession.sessionstartdt ~ '^[1-9][0-9]{3}(0[1-9]|1[0-2])(0[1-9]|[12][0-9]|3[01])([01][0-9]|2[0-3])[0-5][0-9][0-5][0-9][0-9]{0,6}$') THEN CASE
    WHEN TO_CHAR(CAST(TO_TIMESTAMP(left(usersession.sessionstartdt, 14), 'YYYYMMDDHH24MISS') AS TIMESTAMP),
    'YYYYMMDDHH24MISS') = left(usersession.sessionstartdt,
    14) THEN CAST(TO_TIMESTAMP(left(usersession.sessionstartdt, 14),
    'YYYYMMDDHH24MISS') AS TIMESTAMP) END ELSE NULL END) AS BIGINT)) THEN CAST(EXTRACT(epoch FROM CASE
    WHEN (usersession.sessionenddt ~ '^[1-9][0-9]{3}(0[1-9]|1[0-2])(0[1-9]|[12][0-9]|3[01])([01][0-9]|2[0-3])[0-5][0-9][0-5][0-9][0-9]{0,6}$') THEN CASE
    WHEN TO_CHAR(CAST(TO_TIMESTAMP(left(usersession.sessionenddt, 14), 'YYYYMMDDHH24MISS') AS TIMESTAMP),
    'YYYYMMDDHH24MISS') = left(usersession.sessionenddt,
    14) THEN CAST(TO_TIMESTAMP(left(usersession.sessionenddt, 14),
    'YYYYMMDDHH24MISS') AS TIMESTAMP) END ELSE NULL END) AS BIGINT) - CAST(EXTRACT(epoch FROM CASE
    WHEN (usersession.sessionstartdt ~ '^[1-9][0-9]{3}(0[1-9]|1[0-2])(0[1-9]|[12][0-9]|3[01])([01][0-9]|2[0-3])[0-5][0-9][0-5][0-9][0-9]{0,6}$') THEN CASE
    WHEN TO_CHAR(CAST(TO_TIMESTAMP(left(usersession.sessionstartdt, 14), 'YYYYMMDDHH24MISS') AS TIMESTAMP),
    'YYYYMMDDHH24MISS') = left(usersession.sessionstartdt,
    14) THEN CAST(TO_TIMESTAMP(left(usersession.sessionstartdt, 14),
    'YYYYMMDDHH24MISS') AS TIMESTAMP) END ELSE NULL END) AS BIGINT) END AS DOUBLE PRECISION) AS seconds,
    CAST(tokens.money * 1000000 AS DOUBLE PRECISION) AS money
FROM (SELECT suggestion.userid AS userid, suggestion.sessionid AS sessionid, suggestion.domainid AS domainid,
    suggestion.holdoutshare AS holdoutshare, suggestion.planssincedt AS planssincedt,
    suggestion.withheldyn AS withheldyn, row_number() OVER (PARTITION BY suggestion.userid,
    suggestion.sessionid ORDER BY suggestion.suggestionkey) AS place
FROM suggestion
WHERE suggestion.sessionid IS NOT NULL AND suggestion.domainid IS NOT NULL
    AND suggestion.holdoutshare > 0) AS asked JOIN usersession ON usersession.userid = asked.userid
    AND usersession.sessionid = asked.sessionid LEFT OUTER JOIN (SELECT agent_execution.userid AS userid,
    agent_execution.sessionid AS sessionid, min(agent_execution.category) AS category,
    min(agent_execution.success) AS ok, CAST(least(greatest(sum(CAST(agent_execution.calls AS BIGINT)),
    -4000000000000000000), 4000000000000000000) AS BIGINT) AS calls
FROM agent_execution GROUP BY agent_execution.userid,
    agent_execution.sessionid) AS run ON run.userid = asked.userid AND run.sessionid = asked.sessionid
    LEFT OUTER JOIN (SELECT user_tool_mapping_hist.userid AS userid,
    user_tool_mapping_hist.sessionid AS sessionid,
    CAST(least(greatest(sum(CAST(coalesce(user_tool_mapping_hist.inputtokens,
    0) + coalesce(user_tool_mapping_hist.outputtokens, 0) AS BIGINT)), -4000000000000000000),
    4000000000000000000) AS BIGINT) AS n, CAST(CASE WHEN (count(CAST(CASE
    WHEN (user_tool_mapping_hist.inputtokens IS NOT NULL
    AND user_tool_mapping_hist.outputtokens IS NOT NULL) THEN CAST(greatest((user_tool_mapping_hist.inputtokens - coalesce(user_tool_mapping_hist.cachedtokens,
    0)) - coalesce(user_tool_mapping_hist.cachewritetokens, 0),
    0) AS DOUBLE PRECISION) * model_price.inputprice + CAST(coalesce(user_tool_mapping_hist.cachedtokens,
    0) AS DOUBLE PRECISION) * coalesce(model_price.cachereadprice,
    model_price.inputprice) + CAST(coalesce(user_tool_mapping_hist.cachewritetokens,
    0) AS DOUBLE PRECISION) * coalesce(model_price.cachewriteprice,
    model_price.inputprice) + CAST(greatest(user_tool_mapping_hist.outputtokens - coalesce(user_tool_mapping_hist.reasoningtokens,
    0),
    0) AS DOUBLE PRECISION) * model_price.outputprice + CAST(coalesce(user_tool_mapping_hist.reasoningtokens,
    0) AS DOUBLE PRECISION) * coalesce(model_price.reasoningprice,
    model_price.outputprice) END AS DOUBLE PRECISION)) = count(*)) THEN sum(CAST(CASE
    WHEN (user_tool_mapping_hist.inputtokens IS NOT NULL
    AND user_tool_mapping_hist.outputtokens IS NOT NULL) THEN CAST(greatest((user_tool_mapping_hist.inputtokens - coalesce(user_tool_mapping_hist.cachedtokens,
    0)) - coalesce(user_tool_mapping_hist.cachewritetokens, 0),
    0) AS DOUBLE PRECISION) * model_price.inputprice + CAST(coalesce(user_tool_mapping_hist.cachedtokens,
    0) AS DOUBLE PRECISION) * coalesce(model_price.cachereadprice,
    model_price.inputprice) + CAST(coalesce(user_tool_mapping_hist.cachewritetokens,
    0) AS DOUBLE PRECISION) * coalesce(model_price.cachewriteprice,
    model_price.inputprice) + CAST(greatest(user_tool_mapping_hist.outputtokens - coalesce(user_tool_mapping_hist.reasoningtokens,
    0),
    0) AS DOUBLE PRECISION) * model_price.outputprice + CAST(coalesce(user_tool_mapping_hist.reasoningtokens,
    0) AS DOUBLE PRECISION) * coalesce(model_price.reasoningprice,
    model_price.outputprice) END AS DOUBLE PRECISION)) END AS DOUBLE PRECISION) AS money
FROM user_tool_mapping_hist LEFT OUTER JOIN model_price ON (model_price.aboveinput = 0
    OR coalesce(user_tool_mapping_hist.requestinputtokens,
    user_tool_mapping_hist.inputtokens) > model_price.aboveinput) AND (model_price.mostinput IS NULL
    OR coalesce(user_tool_mapping_hist.requestinputtokens,
    user_tool_mapping_hist.inputtokens) <= model_price.mostinput)
    AND model_price.modelnm = user_tool_mapping_hist.modelnm AND model_price.validfrom <= coalesce(CASE
    WHEN (user_tool_mapping_hist.transactdt ~ '^[1-9][0-9]{3}(0[1-9]|1[0-2])(0[1-9]|[12][0-9]|3[01])([01][0-9]|2[0-3])[0-5][0-9][0-5][0-9][0-9]{0,6}$') THEN CASE
    WHEN TO_CHAR(TO_DATE(left(user_tool_mapping_hist.transactdt, 8), 'YYYYMMDD'),
    'YYYYMMDD') = left(user_tool_mapping_hist.transactdt,
    8) THEN TO_DATE(left(user_tool_mapping_hist.transactdt, 8), 'YYYYMMDD') END ELSE NULL END,
    CAST('0001-01-01' AS DATE)) AND model_price.validuntil > coalesce(CASE
    WHEN (user_tool_mapping_hist.transactdt ~ '^[1-9][0-9]{3}(0[1-9]|1[0-2])(0[1-9]|[12][0-9]|3[01])([01][0-9]|2[0-3])[0-5][0-9][0-5][0-9][0-9]{0,6}$') THEN CASE
    WHEN TO_CHAR(TO_DATE(left(user_tool_mapping_hist.transactdt, 8), 'YYYYMMDD'),
    'YYYYMMDD') = left(user_tool_mapping_hist.transactdt,
    8) THEN TO_DATE(left(user_tool_mapping_hist.transactdt, 8), 'YYYYMMDD') END ELSE NULL END,
    CAST('9999-12-30' AS DATE))
WHERE coalesce(user_tool_mapping_hist.inputtokens,
    user_tool_mapping_hist.outputtokens) IS NOT NULL GROUP BY user_tool_mapping_hist.userid,
    user_tool_mapping_hist.sessionid) AS tokens ON tokens.userid = asked.userid
    AND tokens.sessionid = asked.sessionid LEFT OUTER JOIN reported ON reported.userid = asked.userid
    AND reported.sessionid = asked.sessionid AND reported.agent_id = ''
WHERE asked.place = 1 AND CASE WHEN (usersession.reviewedsuccyn = CAST('Y' AS VARCHAR(4))) THEN 1
    WHEN (usersession.reviewedsuccyn = CAST('N' AS VARCHAR(4))) THEN 0 WHEN (right(coalesce(reported.best,
    ''), 1) = CAST('0' AS VARCHAR(4))) THEN 1 WHEN (right(coalesce(reported.best, ''),
    1) = CAST('1' AS VARCHAR(4))) THEN 0 WHEN (usersession.sessionsuccyn = CAST('Y' AS VARCHAR(4))) THEN 1
    WHEN (usersession.sessionsuccyn = CAST('N' AS VARCHAR(4))) THEN 0 ELSE run.ok END IS NOT NULL) AS session) AS c GROUP BY c.domainid,
    c.category, c.holdoutshare, c.since, c.withheldyn ORDER BY c.domainid, c.category, c.holdoutshare,
    c.since, c.withheldyn;
