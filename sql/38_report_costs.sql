-- List what models cost per agent, by the prices in model_price.

SELECT call.agentid AS agent_id, call.model_name, count(*) AS calls,
    CAST(least(greatest(sum(CAST(coalesce(call.inputtokens, 0) AS BIGINT)), -4000000000000000000),
    4000000000000000000) AS BIGINT) AS input_tokens, CAST(least(greatest(sum(CAST(coalesce(call.outputtokens,
    0) AS BIGINT)), -4000000000000000000), 4000000000000000000) AS BIGINT) AS output_tokens,
    count(call.cost) AS priced, sum(call.cost) AS cost
FROM (SELECT user_tool_mapping_hist.agentid AS agentid, coalesce(user_tool_mapping_hist.modelnm,
    '') AS model_name, user_tool_mapping_hist.inputtokens AS inputtokens,
    user_tool_mapping_hist.outputtokens AS outputtokens, CAST(CASE
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
    model_price.outputprice) END AS DOUBLE PRECISION) AS cost
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
    user_tool_mapping_hist.outputtokens) IS NOT NULL) AS call GROUP BY call.agentid,
    call.model_name ORDER BY coalesce(sum(call.cost), 0) DESC, call.agentid, call.model_name;
