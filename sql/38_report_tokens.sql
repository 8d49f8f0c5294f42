-- List tokens per agent and tool.

SELECT agent_tool.agentid AS agent_id, agent_tool.toolid AS tool_id, named.tool_name,
    CAST(least(greatest(sum(CAST(agent_tool.calls AS BIGINT)), -4000000000000000000),
    4000000000000000000) AS BIGINT) AS calls,
    CAST(least(greatest(sum(CAST(agent_tool.inputtokens AS BIGINT)), -4000000000000000000),
    4000000000000000000) AS BIGINT) AS input_tokens,
    CAST(least(greatest(sum(CAST(agent_tool.outputtokens AS BIGINT)), -4000000000000000000),
    4000000000000000000) AS BIGINT) AS output_tokens, coalesce(known.priced, 0) AS priced, known.cost
FROM agent_tool JOIN (SELECT agent_tool.agentid AS agentid, agent_tool.toolid AS toolid,
    coalesce(nullif(max(tool.toolnm), ''), nullif(max(agent_tool.toolnm), ''), agent_tool.toolid) AS tool_name
FROM agent_tool LEFT OUTER JOIN tool ON tool.agentid = agent_tool.agentid
    AND tool.toolid = agent_tool.toolid GROUP BY agent_tool.agentid,
    agent_tool.toolid) AS named ON named.agentid = agent_tool.agentid AND named.toolid = agent_tool.toolid
    LEFT OUTER JOIN (SELECT paid.agentid AS agentid, paid.toolid AS toolid, count(paid.cost) AS priced,
    sum(paid.cost) AS cost
FROM (SELECT c.agentid AS agentid, c.toolid AS toolid, CAST(CASE WHEN (c.inputtokens IS NOT NULL
    AND c.outputtokens IS NOT NULL) THEN CAST(greatest((c.inputtokens - coalesce(c.cachedtokens,
    0)) - coalesce(c.cachewritetokens, 0),
    0) AS DOUBLE PRECISION) * model_price.inputprice + CAST(coalesce(c.cachedtokens,
    0) AS DOUBLE PRECISION) * coalesce(model_price.cachereadprice,
    model_price.inputprice) + CAST(coalesce(c.cachewritetokens,
    0) AS DOUBLE PRECISION) * coalesce(model_price.cachewriteprice,
    model_price.inputprice) + CAST(greatest(c.outputtokens - coalesce(c.reasoningtokens, 0),
    0) AS DOUBLE PRECISION) * model_price.outputprice + CAST(coalesce(c.reasoningtokens,
    0) AS DOUBLE PRECISION) * coalesce(model_price.reasoningprice,
    model_price.outputprice) END AS DOUBLE PRECISION) AS cost
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
    8) THEN TO_DATE(left(c.transactdt, 8), 'YYYYMMDD') END ELSE NULL END, CAST('9999-12-30' AS DATE))
WHERE coalesce(c.inputtokens, c.outputtokens) IS NOT NULL) AS paid GROUP BY paid.agentid,
    paid.toolid) AS known ON known.agentid = agent_tool.agentid
    AND known.toolid = agent_tool.toolid GROUP BY agent_tool.agentid, agent_tool.toolid, named.tool_name,
    known.priced, known.cost ORDER BY CAST(least(greatest(sum(CAST(agent_tool.inputtokens AS BIGINT)),
    -4000000000000000000),
    4000000000000000000) AS BIGINT) + CAST(least(greatest(sum(CAST(agent_tool.outputtokens AS BIGINT)),
    -4000000000000000000), 4000000000000000000) AS BIGINT) DESC, agent_tool.agentid, agent_tool.toolid;
