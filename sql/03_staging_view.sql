-- Create the sample's staging rows as a view.

CREATE OR REPLACE VIEW agent_tool_analysis_staging AS SELECT call.userid, call.sessionid, call.processid,
    agent.domainid, call.agentid, call.toolid, call.attempt, call.toolnm, call.day AS execution_date, CASE
    WHEN (call.transactdt ~ '^[1-9][0-9]{3}(0[1-9]|1[0-2])(0[1-9]|[12][0-9]|3[01])([01][0-9]|2[0-3])[0-5][0-9][0-5][0-9][0-9]{0,6}$') THEN CASE
    WHEN TO_CHAR(CAST(TO_TIMESTAMP(left(call.transactdt, 14), 'YYYYMMDDHH24MISS') AS TIMESTAMP),
    'YYYYMMDDHH24MISS') = left(call.transactdt, 14) THEN CAST(TO_TIMESTAMP(left(call.transactdt, 14),
    'YYYYMMDDHH24MISS') AS TIMESTAMP) END ELSE NULL END AS execution_datetime, call.ok = 1 AS success_flag,
    call.toolvalues AS tool_values, call.resultmsg AS result_message
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
    '') IN (CAST('ok' AS VARCHAR(8)), CAST('error' AS VARCHAR(20)))) AS call
    LEFT OUTER JOIN agent ON agent.agentid = call.agentid;
