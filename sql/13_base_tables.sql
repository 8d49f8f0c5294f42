-- Replace the changed rows of the base tables.

-- Delete the changed rows from domain.
DELETE FROM domain USING work_change WHERE domain.domainid = work_change."PK"
    AND work_change.kind = CAST('Domain' AS VARCHAR(24));

-- Insert them into domain as they are now, except those that a person deleted.
INSERT INTO domain (domainid, domainnm, description, load_timestamp) SELECT left(work_change."PK",
    132) AS left_1, left(CAST(work_change."value"."DomainNM"."S" AS VARCHAR(65535)), 255) AS left_2,
    left(CAST(work_change."value"."Description"."S" AS VARCHAR(65535)), 4000) AS left_3, work_change.loaded_at
FROM work_change
WHERE work_change.kind = CAST('Domain' AS VARCHAR(24)) AND work_change.present = 1
    AND length(work_change."PK") <= 132;

-- Delete the changed rows from agent.
DELETE FROM agent USING work_change WHERE agent.agentid = work_change."PK"
    AND work_change.kind = CAST('Agent' AS VARCHAR(20));

-- Insert them into agent as they are now, except those that a person deleted.
INSERT INTO agent (agentid, domainid, agentnm, score, description,
    load_timestamp) SELECT left(work_change."PK", 132) AS left_1,
    left(CAST(work_change."value"."GSI1_PK"."S" AS VARCHAR(65535)), 132) AS left_2,
    left(CAST(work_change."value"."AgentNM"."S" AS VARCHAR(65535)), 255) AS left_3, CASE
    WHEN (coalesce(CAST(work_change."value"."Score"."N" AS VARCHAR(65535)),
    CAST(work_change."value"."Score"."S" AS VARCHAR(65535))) ~ '^-?[0-9]{1,18}([.][0-9]{1,38})?$') THEN CAST(coalesce(CAST(work_change."value"."Score"."N" AS VARCHAR(65535)),
    CAST(work_change."value"."Score"."S" AS VARCHAR(65535))) AS DOUBLE PRECISION) ELSE NULL END AS anon_1,
    left(CAST(work_change."value"."Description"."S" AS VARCHAR(65535)), 4000) AS left_4, work_change.loaded_at
FROM work_change
WHERE work_change.kind = CAST('Agent' AS VARCHAR(20)) AND work_change.present = 1
    AND length(work_change."PK") <= 132;

-- Delete the changed rows from tool.
DELETE FROM tool USING work_change WHERE tool.agentid = work_change."PK" AND tool.toolid = work_change."SK"
    AND work_change.kind = CAST('Tool' AS VARCHAR(16));

-- Insert them into tool as they are now, except those that a person deleted.
INSERT INTO tool (agentid, toolid, domainid, toolnm, toolspec, description,
    load_timestamp) SELECT left(work_change."PK", 132) AS left_1, left(work_change."SK", 132) AS left_2,
    left(CAST(work_change."value"."GSI1_PK"."S" AS VARCHAR(65535)), 132) AS left_3,
    left(CAST(work_change."value"."ToolNM"."S" AS VARCHAR(65535)), 255) AS left_4,
    left(CAST(work_change."value"."ToolSpec"."S" AS VARCHAR(65535)), 16383) AS left_5,
    left(CAST(work_change."value"."Description"."S" AS VARCHAR(65535)), 4000) AS left_6, work_change.loaded_at
FROM work_change
WHERE work_change.kind = CAST('Tool' AS VARCHAR(16)) AND work_change.present = 1
    AND length(work_change."PK") <= 132 AND length(work_change."SK") <= 132;

-- Delete the changed rows from userinfo.
DELETE FROM userinfo USING work_change WHERE userinfo.userid = work_change."PK"
    AND work_change.kind = CAST('UserInfo' AS VARCHAR(32));

-- Insert them into userinfo as they are now, except those that a person deleted.
INSERT INTO userinfo (userid, usernm, userprofile, lastlogindt, creationdt,
    load_timestamp) SELECT left(work_change."PK", 132) AS left_1,
    left(CAST(work_change."value"."UserNM"."S" AS VARCHAR(65535)), 255) AS left_2,
    left(CAST(work_change."value"."UserProfile"."S" AS VARCHAR(65535)), 4000) AS left_3, CASE
    WHEN (CAST(work_change."value"."LastLoginDT"."S" AS VARCHAR(65535)) ~ '^[ -~]*$') THEN left(CAST(work_change."value"."LastLoginDT"."S" AS VARCHAR(65535)),
    20) ELSE NULL END AS anon_1, CASE
    WHEN (CAST(work_change."value"."CreationDT"."S" AS VARCHAR(65535)) ~ '^[ -~]*$') THEN left(CAST(work_change."value"."CreationDT"."S" AS VARCHAR(65535)),
    20) ELSE NULL END AS anon_2, work_change.loaded_at
FROM work_change
WHERE work_change.kind = CAST('UserInfo' AS VARCHAR(32)) AND work_change.present = 1
    AND length(work_change."PK") <= 132;

-- Delete the changed rows from usersession.
DELETE FROM usersession USING work_change WHERE usersession.userid = work_change."PK"
    AND usersession.sessionid = work_change."SK" AND work_change.kind = CAST('UserSession' AS VARCHAR(44));

-- Insert them into usersession as they are now, except those that a person deleted.
INSERT INTO usersession (userid, sessionid, sessionnm, sessionsummary, sessionstartdt, dtlfileloc,
    sessionenddt, sessionsuccyn, reviewedsuccyn, category, userrequest, expiresat, ttldays,
    load_timestamp) SELECT left(work_change."PK", 132) AS left_1, left(work_change."SK", 132) AS left_2,
    left(CAST(work_change."value"."UserSessionNM"."S" AS VARCHAR(65535)), 255) AS left_3,
    left(CAST(work_change."value"."SessionSummary"."S" AS VARCHAR(65535)), 4000) AS left_4, CASE
    WHEN (CAST(work_change."value"."SessionStartDT"."S" AS VARCHAR(65535)) ~ '^[ -~]*$') THEN left(CAST(work_change."value"."SessionStartDT"."S" AS VARCHAR(65535)),
    20) ELSE NULL END AS anon_1, left(CAST(work_change."value"."DtlFileLoc"."S" AS VARCHAR(65535)),
    4000) AS left_5, CASE
    WHEN (CAST(work_change."value"."SessionEndDT"."S" AS VARCHAR(65535)) ~ '^[ -~]*$') THEN left(CAST(work_change."value"."SessionEndDT"."S" AS VARCHAR(65535)),
    20) ELSE NULL END AS anon_2, CASE
    WHEN (CAST(work_change."value"."SessionSuccYN"."S" AS VARCHAR(65535)) ~ '^[ -~]*$') THEN left(CAST(work_change."value"."SessionSuccYN"."S" AS VARCHAR(65535)),
    1) ELSE NULL END AS anon_3, CASE
    WHEN (CAST(work_change."value"."ReviewedSuccYN"."S" AS VARCHAR(65535)) ~ '^[ -~]*$') THEN left(CAST(work_change."value"."ReviewedSuccYN"."S" AS VARCHAR(65535)),
    1) ELSE NULL END AS anon_4, left(CAST(work_change."value"."Category"."S" AS VARCHAR(65535)),
    255) AS left_6, left(CAST(work_change."value"."UserRequest"."S" AS VARCHAR(65535)), 16383) AS left_7,
    coalesce(CASE
    WHEN (CAST(work_change."value"."ExpiresAt"."N" AS VARCHAR(65535)) ~ '^-?[0-9]{1,18}([.][0-9]{1,38})?$') THEN CAST(CAST(work_change."value"."ExpiresAt"."N" AS VARCHAR(65535)) AS DOUBLE PRECISION) ELSE NULL END,
    0) AS coalesce_1, CASE
    WHEN (CAST(work_change."value"."TTLDays"."N" AS VARCHAR(65535)) ~ '^-?[0-9]{1,9}$') THEN CAST(CAST(work_change."value"."TTLDays"."N" AS VARCHAR(65535)) AS INTEGER) ELSE NULL END AS anon_5,
    work_change.loaded_at
FROM work_change
WHERE work_change.kind = CAST('UserSession' AS VARCHAR(44)) AND work_change.present = 1
    AND length(work_change."PK") <= 132 AND length(work_change."SK") <= 132;

-- Delete the changed rows from session_outcome.
DELETE FROM session_outcome USING work_change WHERE session_outcome.userid = split_part(work_change."PK",
    '#', 1) AND session_outcome.sessionid = split_part(work_change."PK", '#', 2)
    AND session_outcome.outcomeid = split_part(work_change."SK", '#', 2)
    AND work_change.kind = CAST('Review' AS VARCHAR(24));

-- Insert them into session_outcome as they are now, except those that a person deleted.
INSERT INTO session_outcome (userid, sessionid, outcomeid, source, agentid, succyn, score, reportedby,
    reason, reporteddt, load_timestamp) SELECT left(split_part(work_change."PK", '#', 1), 132) AS left_1,
    left(split_part(work_change."PK", '#', 2), 132) AS left_2, left(split_part(work_change."SK", '#', 2),
    132) AS left_3, CASE
    WHEN (CAST(work_change."value"."OutcomeSource"."S" AS VARCHAR(65535)) ~ '^[ -~]*$') THEN left(CAST(work_change."value"."OutcomeSource"."S" AS VARCHAR(65535)),
    16) ELSE NULL END AS anon_1, left(CAST(work_change."value"."AgentID"."S" AS VARCHAR(65535)),
    132) AS left_4, CASE
    WHEN (CAST(work_change."value"."OutcomeYN"."S" AS VARCHAR(65535)) ~ '^[ -~]*$') THEN left(CAST(work_change."value"."OutcomeYN"."S" AS VARCHAR(65535)),
    1) ELSE NULL END AS anon_2, CASE
    WHEN (CAST(work_change."value"."OutcomeScore"."N" AS VARCHAR(65535)) ~ '^-?[0-9]{1,18}([.][0-9]{1,38})?$') THEN CAST(CAST(work_change."value"."OutcomeScore"."N" AS VARCHAR(65535)) AS DOUBLE PRECISION) ELSE NULL END AS anon_3,
    left(CAST(work_change."value"."DecidedBy"."S" AS VARCHAR(65535)), 255) AS left_5,
    left(CAST(work_change."value"."DecisionReason"."S" AS VARCHAR(65535)), 4000) AS left_6, CASE
    WHEN (CAST(work_change."value"."DecidedDT"."S" AS VARCHAR(65535)) ~ '^[ -~]*$') THEN left(CAST(work_change."value"."DecidedDT"."S" AS VARCHAR(65535)),
    20) ELSE NULL END AS anon_4, work_change.loaded_at
FROM work_change
WHERE work_change.kind = CAST('Review' AS VARCHAR(24))
    AND CAST(work_change."value"."OutcomeSource"."S" AS VARCHAR(65535)) IS NOT NULL
    AND work_change.present = 1 AND length(split_part(work_change."PK", '#', 1)) <= 132
    AND length(split_part(work_change."PK", '#', 2)) <= 132 AND length(split_part(work_change."SK", '#',
    2)) <= 132;

-- Delete the changed rows from usersessionprocess.
DELETE FROM usersessionprocess USING work_change
    WHERE usersessionprocess.userid = split_part(work_change."PK", '#', 1)
    AND usersessionprocess.sessionid = split_part(work_change."PK", '#', 2)
    AND usersessionprocess.processid = work_change."SK"
    AND work_change.kind = CAST('UserSessionProcess' AS VARCHAR(72));

-- Insert them into usersessionprocess as they are now, except those that a person deleted.
INSERT INTO usersessionprocess (userid, sessionid, processid, userprompt, procnm, procdesc, procdt,
    load_timestamp) SELECT left(split_part(work_change."PK", '#', 1), 132) AS left_1,
    left(split_part(work_change."PK", '#', 2), 132) AS left_2, left(work_change."SK", 132) AS left_3,
    left(CAST(work_change."value"."UserPrompt"."S" AS VARCHAR(65535)), 16383) AS left_4,
    left(CAST(work_change."value"."ProcNM"."S" AS VARCHAR(65535)), 255) AS left_5,
    left(coalesce(CAST(work_change."value"."ProcessDesc"."S" AS VARCHAR(65535)),
    CAST(work_change."value"."ProcDesc"."S" AS VARCHAR(65535))), 4000) AS left_6, CASE
    WHEN (CAST(work_change."value"."ProcDT"."S" AS VARCHAR(65535)) ~ '^[ -~]*$') THEN left(CAST(work_change."value"."ProcDT"."S" AS VARCHAR(65535)),
    20) ELSE NULL END AS anon_1, work_change.loaded_at
FROM work_change
WHERE work_change.kind = CAST('UserSessionProcess' AS VARCHAR(72)) AND work_change.present = 1
    AND length(split_part(work_change."PK", '#', 1)) <= 132 AND length(split_part(work_change."PK", '#',
    2)) <= 132 AND length(work_change."SK") <= 132;

-- Delete the changed rows from user_tool_mapping_hist.
DELETE FROM user_tool_mapping_hist USING work_change
    WHERE user_tool_mapping_hist.userid = split_part(work_change."PK", '#', 1)
    AND user_tool_mapping_hist.sessionid = split_part(work_change."PK", '#', 2)
    AND user_tool_mapping_hist.processid = split_part(work_change."SK", '#', 1)
    AND user_tool_mapping_hist.agentid = split_part(work_change."SK", '#', 2)
    AND user_tool_mapping_hist.toolid = split_part(work_change."SK", '#', 3)
    AND user_tool_mapping_hist.attempt = coalesce(CASE WHEN (ltrim(split_part(work_change."SK", '#', 4),
    'ABCDEFGHIJ') ~ '^-?[0-9]{1,9}$') THEN CAST(ltrim(split_part(work_change."SK", '#', 4),
    'ABCDEFGHIJ') AS INTEGER) ELSE NULL END, 1)
    AND work_change.kind = CAST('UserSessPrcToolMappHist' AS VARCHAR(92));

-- Insert them into user_tool_mapping_hist as they are now, except those that a person deleted.
INSERT INTO user_tool_mapping_hist (userid, sessionid, processid, agentid, toolid, attempt, toolnm,
    toolvalues, transactdt, succyn, resultmsg, callno, status, errortype, durationms, inputtokens,
    outputtokens, cachedtokens, cachewritetokens, reasoningtokens, modelnm, requestinputtokens, agentver,
    load_timestamp) SELECT left(split_part(work_change."PK", '#', 1), 132) AS left_1,
    left(split_part(work_change."PK", '#', 2), 132) AS left_2, left(split_part(work_change."SK", '#', 1),
    132) AS left_3, left(split_part(work_change."SK", '#', 2), 132) AS left_4,
    left(split_part(work_change."SK", '#', 3), 132) AS left_5, coalesce(CASE
    WHEN (ltrim(split_part(work_change."SK", '#', 4),
    'ABCDEFGHIJ') ~ '^-?[0-9]{1,9}$') THEN CAST(ltrim(split_part(work_change."SK", '#', 4),
    'ABCDEFGHIJ') AS INTEGER) ELSE NULL END, 1) AS coalesce_1,
    left(CAST(work_change."value"."ToolNM"."S" AS VARCHAR(65535)), 255) AS left_6,
    left(CAST(work_change."value"."ToolValues"."S" AS VARCHAR(65535)), 16383) AS left_7, CASE
    WHEN (CAST(work_change."value"."TransactDT"."S" AS VARCHAR(65535)) ~ '^[ -~]*$') THEN left(CAST(work_change."value"."TransactDT"."S" AS VARCHAR(65535)),
    20) ELSE NULL END AS anon_1, CASE
    WHEN (CAST(work_change."value"."SuccYN"."S" AS VARCHAR(65535)) ~ '^[ -~]*$') THEN left(CAST(work_change."value"."SuccYN"."S" AS VARCHAR(65535)),
    1) ELSE NULL END AS anon_2, left(CAST(work_change."value"."ResultMsg"."S" AS VARCHAR(65535)),
    16383) AS left_8, CASE
    WHEN (CAST(work_change."value"."CallNo"."N" AS VARCHAR(65535)) ~ '^-?[0-9]{1,18}$') THEN CAST(CAST(work_change."value"."CallNo"."N" AS VARCHAR(65535)) AS BIGINT) ELSE NULL END AS anon_3,
    CASE
    WHEN (CAST(work_change."value"."Status"."S" AS VARCHAR(65535)) ~ '^[ -~]*$') THEN left(CAST(work_change."value"."Status"."S" AS VARCHAR(65535)),
    16) ELSE NULL END AS anon_4, left(CAST(work_change."value"."ErrorType"."S" AS VARCHAR(65535)),
    255) AS left_9, CASE
    WHEN (CAST(work_change."value"."DurationMs"."N" AS VARCHAR(65535)) ~ '^-?[0-9]{1,18}([.][0-9]{1,38})?$') THEN CAST(CAST(work_change."value"."DurationMs"."N" AS VARCHAR(65535)) AS DOUBLE PRECISION) ELSE NULL END AS anon_5,
    CASE
    WHEN (CAST(work_change."value"."InputTokens"."N" AS VARCHAR(65535)) ~ '^[0-9]{1,13}$') THEN CAST(CAST(work_change."value"."InputTokens"."N" AS VARCHAR(65535)) AS BIGINT) ELSE NULL END AS anon_6,
    CASE
    WHEN (CAST(work_change."value"."OutputTokens"."N" AS VARCHAR(65535)) ~ '^[0-9]{1,13}$') THEN CAST(CAST(work_change."value"."OutputTokens"."N" AS VARCHAR(65535)) AS BIGINT) ELSE NULL END AS anon_7,
    CASE
    WHEN (CAST(work_change."value"."CachedTokens"."N" AS VARCHAR(65535)) ~ '^[0-9]{1,13}$') THEN CAST(CAST(work_change."value"."CachedTokens"."N" AS VARCHAR(65535)) AS BIGINT) ELSE NULL END AS anon_8,
    CASE
    WHEN (CAST(work_change."value"."CacheWriteTokens"."N" AS VARCHAR(65535)) ~ '^[0-9]{1,13}$') THEN CAST(CAST(work_change."value"."CacheWriteTokens"."N" AS VARCHAR(65535)) AS BIGINT) ELSE NULL END AS anon_9,
    CASE
    WHEN (CAST(work_change."value"."ReasoningTokens"."N" AS VARCHAR(65535)) ~ '^[0-9]{1,13}$') THEN CAST(CAST(work_change."value"."ReasoningTokens"."N" AS VARCHAR(65535)) AS BIGINT) ELSE NULL END AS anon_10,
    left(CAST(work_change."value"."ModelNM"."S" AS VARCHAR(65535)), 255) AS left_10, CASE
    WHEN (CAST(work_change."value"."RequestInputTokens"."N" AS VARCHAR(65535)) ~ '^[0-9]{1,13}$') THEN CAST(CAST(work_change."value"."RequestInputTokens"."N" AS VARCHAR(65535)) AS BIGINT) ELSE NULL END AS anon_11,
    left(CAST(work_change."value"."AgentVer"."S" AS VARCHAR(65535)), 255) AS left_11, work_change.loaded_at
FROM work_change
WHERE work_change.kind = CAST('UserSessPrcToolMappHist' AS VARCHAR(92)) AND work_change.present = 1
    AND length(split_part(work_change."PK", '#', 1)) <= 132 AND length(split_part(work_change."PK", '#',
    2)) <= 132 AND length(split_part(work_change."SK", '#', 1)) <= 132
    AND length(split_part(work_change."SK", '#', 2)) <= 132 AND length(split_part(work_change."SK", '#',
    3)) <= 132;

-- Delete the changed rows from suggestion.
DELETE FROM suggestion USING work_change WHERE suggestion.userid = split_part(work_change."PK", '#', 1)
    AND suggestion.suggestionkey = work_change."SK" AND work_change.kind = CAST('Suggestion' AS VARCHAR(40));

-- Insert them into suggestion as they are now, except those that a person deleted.
INSERT INTO suggestion (userid, suggestionkey, sessionid, domainid, withheldyn, holdoutshare, planssincedt,
    load_timestamp) SELECT left(split_part(work_change."PK", '#', 1), 132) AS left_1, left(work_change."SK",
    132) AS left_2, left(CAST(work_change."value"."UserSessionID"."S" AS VARCHAR(65535)), 132) AS left_3,
    left(CAST(work_change."value"."DomainID"."S" AS VARCHAR(65535)), 132) AS left_4, CASE
    WHEN (CAST(work_change."value"."WithheldYN"."S" AS VARCHAR(65535)) ~ '^[ -~]*$') THEN left(CAST(work_change."value"."WithheldYN"."S" AS VARCHAR(65535)),
    1) ELSE NULL END AS anon_1, CASE
    WHEN (CAST(work_change."value"."HoldoutShare"."N" AS VARCHAR(65535)) ~ '^-?[0-9]{1,18}([.][0-9]{1,38})?$') THEN CAST(CAST(work_change."value"."HoldoutShare"."N" AS VARCHAR(65535)) AS DOUBLE PRECISION) ELSE NULL END AS anon_2,
    CASE
    WHEN (CAST(work_change."value"."PlansSinceDT"."S" AS VARCHAR(65535)) ~ '^[ -~]*$') THEN left(CAST(work_change."value"."PlansSinceDT"."S" AS VARCHAR(65535)),
    20) ELSE NULL END AS anon_3, work_change.loaded_at
FROM work_change
WHERE work_change.kind = CAST('Suggestion' AS VARCHAR(40)) AND work_change.present = 1
    AND length(split_part(work_change."PK", '#', 1)) <= 132 AND length(work_change."SK") <= 132;
