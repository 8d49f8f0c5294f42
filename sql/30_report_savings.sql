-- Count the calls, time and tokens that answers from the cache saved.

SELECT hit.category, count(*) AS hits, count(DISTINCT (hit.userid || '#' || hit.sessionid)) AS sessions,
    count(hit.made_ms) AS timed,
    (CAST(sum(hit.saved_ms) AS DOUBLE PRECISION) / CAST(1000 AS DOUBLE PRECISION)) AS seconds,
    count(hit.made_tokens) AS metered, CAST(least(greatest(sum(CAST(hit.saved_tokens AS BIGINT)),
    -4000000000000000000), 4000000000000000000) AS BIGINT) AS tokens, count(hit.saved_cost) AS priced,
    sum(hit.saved_cost) AS cost
FROM (SELECT coalesce(usersession.category, '') AS category, call.userid AS userid,
    call.sessionid AS sessionid, call.made_ms AS made_ms, call.made_tokens AS made_tokens, CAST(CASE
    WHEN (call.made_ms > call.ms) THEN call.made_ms - call.ms ELSE 0 END AS DOUBLE PRECISION) AS saved_ms,
    CASE
    WHEN (call.made_tokens > call.tokens) THEN call.made_tokens - call.tokens ELSE 0 END AS saved_tokens,
    CAST(CASE WHEN (call.saved_cost < 0) THEN 0 ELSE call.saved_cost END AS DOUBLE PRECISION) AS saved_cost
FROM (SELECT turn.userid AS userid, turn.sessionid AS sessionid, turn.ok AS ok, coalesce(turn.durationms,
    0) AS ms, turn.tokens AS tokens, max(turn.made_ms) OVER (PARTITION BY turn.equal0, turn.equal1,
    turn.equal2, turn.turn) AS made_ms, max(turn.made_tokens) OVER (PARTITION BY turn.equal0, turn.equal1,
    turn.equal2, turn.turn) AS made_tokens, max(turn.made_cost) OVER (PARTITION BY turn.equal0, turn.equal1,
    turn.equal2, turn.turn) - turn.cost AS saved_cost
FROM (SELECT c.userid AS userid, c.sessionid AS sessionid, c.ok AS ok, c.durationms AS durationms,
    c.agentid AS equal0, c.toolid AS equal1, md5(coalesce(c.toolvalues, '')) AS equal2, count(CASE
    WHEN (c.ok = 1) THEN 1 END) OVER (PARTITION BY c.agentid, c.toolid, md5(coalesce(c.toolvalues,
    '')) ORDER BY coalesce(c.clock, ''), c.userid, c.sessionid, coalesce(c.callno, 0), c.processid,
    c.attempt ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS turn, CASE
    WHEN (c.ok = 1) THEN c.durationms END AS made_ms, coalesce(c.inputtokens, 0) + coalesce(c.outputtokens,
    0) AS tokens, CASE WHEN (c.ok = 1 AND coalesce(c.inputtokens,
    c.outputtokens) IS NOT NULL) THEN coalesce(c.inputtokens, 0) + coalesce(c.outputtokens,
    0) END AS made_tokens, CASE WHEN (c.ok = 1) THEN CAST(CASE WHEN (c.inputtokens IS NOT NULL
    AND c.outputtokens IS NOT NULL) THEN CAST(greatest((c.inputtokens - coalesce(c.cachedtokens,
    0)) - coalesce(c.cachewritetokens, 0),
    0) AS DOUBLE PRECISION) * model_price.inputprice + CAST(coalesce(c.cachedtokens,
    0) AS DOUBLE PRECISION) * coalesce(model_price.cachereadprice,
    model_price.inputprice) + CAST(coalesce(c.cachewritetokens,
    0) AS DOUBLE PRECISION) * coalesce(model_price.cachewriteprice,
    model_price.inputprice) + CAST(greatest(c.outputtokens - coalesce(c.reasoningtokens, 0),
    0) AS DOUBLE PRECISION) * model_price.outputprice + CAST(coalesce(c.reasoningtokens,
    0) AS DOUBLE PRECISION) * coalesce(model_price.reasoningprice,
    model_price.outputprice) END AS DOUBLE PRECISION) END AS made_cost, CAST(CASE
    WHEN (coalesce(c.inputtokens, c.outputtokens) IS NOT NULL) THEN CAST(CASE WHEN (c.inputtokens IS NOT NULL
    AND c.outputtokens IS NOT NULL) THEN CAST(greatest((c.inputtokens - coalesce(c.cachedtokens,
    0)) - coalesce(c.cachewritetokens, 0),
    0) AS DOUBLE PRECISION) * model_price.inputprice + CAST(coalesce(c.cachedtokens,
    0) AS DOUBLE PRECISION) * coalesce(model_price.cachereadprice,
    model_price.inputprice) + CAST(coalesce(c.cachewritetokens,
    0) AS DOUBLE PRECISION) * coalesce(model_price.cachewriteprice,
    model_price.inputprice) + CAST(greatest(c.outputtokens - coalesce(c.reasoningtokens, 0),
    0) AS DOUBLE PRECISION) * model_price.outputprice + CAST(coalesce(c.reasoningtokens,
    0) AS DOUBLE PRECISION) * coalesce(model_price.reasoningprice,
    model_price.outputprice) END AS DOUBLE PRECISION) ELSE 0 END AS DOUBLE PRECISION) AS cost
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
    '') IN (CAST('ok' AS VARCHAR(8)), CAST('error' AS VARCHAR(20)), CAST('cache_hit' AS VARCHAR(36)))) AS c
    JOIN (SELECT DISTINCT answered.agentid AS agent_id, answered.toolid AS tool_id,
    md5(coalesce(answered.toolvalues, '')) AS arguments
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
    CAST('cache_hit' AS VARCHAR(36)))) AS answered
WHERE answered.ok IS NULL) AS wanted ON c.agentid = wanted.agent_id AND c.toolid = wanted.tool_id
    AND md5(coalesce(c.toolvalues, '')) = wanted.arguments
    LEFT OUTER JOIN model_price ON (model_price.aboveinput = 0 OR coalesce(c.requestinputtokens,
    c.inputtokens) > model_price.aboveinput) AND (model_price.mostinput IS NULL
    OR coalesce(c.requestinputtokens, c.inputtokens) <= model_price.mostinput)
    AND model_price.modelnm = c.modelnm AND model_price.validfrom <= coalesce(CASE
    WHEN (c.transactdt ~ '^[1-9][0-9]{3}(0[1-9]|1[0-2])(0[1-9]|[12][0-9]|3[01])([01][0-9]|2[0-3])[0-5][0-9][0-5][0-9][0-9]{0,6}$') THEN CASE
    WHEN TO_CHAR(TO_DATE(left(c.transactdt, 8), 'YYYYMMDD'), 'YYYYMMDD') = left(c.transactdt,
    8) THEN TO_DATE(left(c.transactdt, 8), 'YYYYMMDD') END ELSE NULL END, CAST('0001-01-01' AS DATE))
    AND model_price.validuntil > coalesce(CASE
    WHEN (c.transactdt ~ '^[1-9][0-9]{3}(0[1-9]|1[0-2])(0[1-9]|[12][0-9]|3[01])([01][0-9]|2[0-3])[0-5][0-9][0-5][0-9][0-9]{0,6}$') THEN CASE
    WHEN TO_CHAR(TO_DATE(left(c.transactdt, 8), 'YYYYMMDD'), 'YYYYMMDD') = left(c.transactdt,
    8) THEN TO_DATE(left(c.transactdt, 8), 'YYYYMMDD') END ELSE NULL END,
    CAST('9999-12-30' AS DATE))) AS turn) AS call
    LEFT OUTER JOIN usersession ON usersession.userid = call.userid AND usersession.sessionid = call.sessionid
WHERE call.ok IS NULL) AS hit GROUP BY hit.category ORDER BY hit.category;
