-- The changed rows out of the base tables, and in again as they are now.

-- Take the changed rows out of domain.
DELETE FROM domain USING work_change WHERE domain.domainid = work_change."PK"
    AND work_change.kind = CAST('Domain' AS VARCHAR(24));

-- Put them into domain as they are now, unless they were erased.
INSERT INTO domain (domainid, domainnm, description, load_timestamp) SELECT work_change."PK",
    left(CAST(work_change."value"."DomainNM"."S" AS VARCHAR(65535)), 255) AS left_1,
    left(CAST(work_change."value"."Description"."S" AS VARCHAR(65535)), 4000) AS left_2, work_change.loaded_at
FROM work_change
WHERE work_change.kind = CAST('Domain' AS VARCHAR(24)) AND work_change.present = 1;

-- Take the changed rows out of agent.
DELETE FROM agent USING work_change WHERE agent.agentid = work_change."PK"
    AND work_change.kind = CAST('Agent' AS VARCHAR(20));

-- Put them into agent as they are now, unless they were erased.
INSERT INTO agent (agentid, domainid, agentnm, score, description, load_timestamp) SELECT work_change."PK",
    left(CAST(work_change."value"."GSI1_PK"."S" AS VARCHAR(65535)), 132) AS left_1,
    left(CAST(work_change."value"."AgentNM"."S" AS VARCHAR(65535)), 255) AS left_2, CASE
    WHEN (coalesce(CAST(work_change."value"."Score"."N" AS VARCHAR(65535)),
    CAST(work_change."value"."Score"."S" AS VARCHAR(65535))) ~ '^-?[0-9]{1,18}([.][0-9]+)?$') THEN CAST(coalesce(CAST(work_change."value"."Score"."N" AS VARCHAR(65535)),
    CAST(work_change."value"."Score"."S" AS VARCHAR(65535))) AS DOUBLE PRECISION) ELSE NULL END AS anon_1,
    left(CAST(work_change."value"."Description"."S" AS VARCHAR(65535)), 4000) AS left_3, work_change.loaded_at
FROM work_change
WHERE work_change.kind = CAST('Agent' AS VARCHAR(20)) AND work_change.present = 1;

-- Take the changed rows out of tool.
DELETE FROM tool USING work_change WHERE tool.agentid = work_change."PK" AND tool.toolid = work_change."SK"
    AND work_change.kind = CAST('Tool' AS VARCHAR(16));

-- Put them into tool as they are now, unless they were erased.
INSERT INTO tool (agentid, toolid, domainid, toolnm, toolspec, description,
    load_timestamp) SELECT work_change."PK", work_change."SK",
    left(CAST(work_change."value"."GSI1_PK"."S" AS VARCHAR(65535)), 132) AS left_1,
    left(CAST(work_change."value"."ToolNM"."S" AS VARCHAR(65535)), 255) AS left_2,
    left(CAST(work_change."value"."ToolSpec"."S" AS VARCHAR(65535)), 16383) AS left_3,
    left(CAST(work_change."value"."Description"."S" AS VARCHAR(65535)), 4000) AS left_4, work_change.loaded_at
FROM work_change
WHERE work_change.kind = CAST('Tool' AS VARCHAR(16)) AND work_change.present = 1;

-- Take the changed rows out of userinfo.
DELETE FROM userinfo USING work_change WHERE userinfo.userid = work_change."PK"
    AND work_change.kind = CAST('UserInfo' AS VARCHAR(32));

-- Put them into userinfo as they are now, unless they were erased.
INSERT INTO userinfo (userid, usernm, userprofile, lastlogindt, creationdt,
    load_timestamp) SELECT work_change."PK", left(CAST(work_change."value"."UserNM"."S" AS VARCHAR(65535)),
    255) AS left_1, left(CAST(work_change."value"."UserProfile"."S" AS VARCHAR(65535)), 4000) AS left_2,
    left(CAST(work_change."value"."LastLoginDT"."S" AS VARCHAR(65535)), 20) AS left_3,
    left(CAST(work_change."value"."CreationDT"."S" AS VARCHAR(65535)), 20) AS left_4, work_change.loaded_at
FROM work_change
WHERE work_change.kind = CAST('UserInfo' AS VARCHAR(32)) AND work_change.present = 1;

-- Take the changed rows out of usersession.
DELETE FROM usersession USING work_change WHERE usersession.userid = work_change."PK"
    AND usersession.sessionid = work_change."SK" AND work_change.kind = CAST('UserSession' AS VARCHAR(44));

-- Put them into usersession as they are now, unless they were erased.
INSERT INTO usersession (userid, sessionid, sessionnm, sessionsummary, sessionstartdt, dtlfileloc,
    sessionenddt, sessionsuccyn, reviewedsuccyn, category, userrequest,
    load_timestamp) SELECT work_change."PK", work_change."SK",
    left(CAST(work_change."value"."UserSessionNM"."S" AS VARCHAR(65535)), 255) AS left_1,
    left(CAST(work_change."value"."SessionSummary"."S" AS VARCHAR(65535)), 4000) AS left_2,
    left(CAST(work_change."value"."SessionStartDT"."S" AS VARCHAR(65535)), 20) AS left_3,
    left(CAST(work_change."value"."DtlFileLoc"."S" AS VARCHAR(65535)), 4000) AS left_4,
    left(CAST(work_change."value"."SessionEndDT"."S" AS VARCHAR(65535)), 20) AS left_5,
    left(CAST(work_change."value"."SessionSuccYN"."S" AS VARCHAR(65535)), 1) AS left_6,
    left(CAST(work_change."value"."ReviewedSuccYN"."S" AS VARCHAR(65535)), 1) AS left_7,
    left(CAST(work_change."value"."Category"."S" AS VARCHAR(65535)), 255) AS left_8,
    left(CAST(work_change."value"."UserRequest"."S" AS VARCHAR(65535)), 16383) AS left_9,
    work_change.loaded_at
FROM work_change
WHERE work_change.kind = CAST('UserSession' AS VARCHAR(44)) AND work_change.present = 1;

-- Take the changed rows out of usersessionprocess.
DELETE FROM usersessionprocess USING work_change
    WHERE usersessionprocess.userid = split_part(work_change."PK", '#', 1)
    AND usersessionprocess.sessionid = split_part(work_change."PK", '#', 2)
    AND usersessionprocess.processid = work_change."SK"
    AND work_change.kind = CAST('UserSessionProcess' AS VARCHAR(72));

-- Put them into usersessionprocess as they are now, unless they were erased.
INSERT INTO usersessionprocess (userid, sessionid, processid, userprompt, procnm, procdesc, procdt,
    load_timestamp) SELECT split_part(work_change."PK", '#', 1) AS split_part_1, split_part(work_change."PK",
    '#', 2) AS split_part_2, work_change."SK",
    left(CAST(work_change."value"."UserPrompt"."S" AS VARCHAR(65535)), 16383) AS left_1,
    left(CAST(work_change."value"."ProcNM"."S" AS VARCHAR(65535)), 255) AS left_2,
    left(coalesce(CAST(work_change."value"."ProcessDesc"."S" AS VARCHAR(65535)),
    CAST(work_change."value"."ProcDesc"."S" AS VARCHAR(65535))), 4000) AS left_3,
    left(CAST(work_change."value"."ProcDT"."S" AS VARCHAR(65535)), 20) AS left_4, work_change.loaded_at
FROM work_change
WHERE work_change.kind = CAST('UserSessionProcess' AS VARCHAR(72)) AND work_change.present = 1;

-- Take the changed rows out of user_tool_mapping_hist.
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

-- Put them into user_tool_mapping_hist as they are now, unless they were erased.
INSERT INTO user_tool_mapping_hist (userid, sessionid, processid, agentid, toolid, attempt, toolnm,
    toolvalues, transactdt, succyn, resultmsg, callno, status, errortype, durationms, inputtokens,
    outputtokens, load_timestamp) SELECT split_part(work_change."PK", '#', 1) AS split_part_1,
    split_part(work_change."PK", '#', 2) AS split_part_2, split_part(work_change."SK", '#',
    1) AS split_part_3, split_part(work_change."SK", '#', 2) AS split_part_4, split_part(work_change."SK",
    '#', 3) AS split_part_5, coalesce(CASE WHEN (ltrim(split_part(work_change."SK", '#', 4),
    'ABCDEFGHIJ') ~ '^-?[0-9]{1,9}$') THEN CAST(ltrim(split_part(work_change."SK", '#', 4),
    'ABCDEFGHIJ') AS INTEGER) ELSE NULL END, 1) AS coalesce_1,
    left(CAST(work_change."value"."ToolNM"."S" AS VARCHAR(65535)), 255) AS left_1,
    left(CAST(work_change."value"."ToolValues"."S" AS VARCHAR(65535)), 16383) AS left_2,
    left(CAST(work_change."value"."TransactDT"."S" AS VARCHAR(65535)), 20) AS left_3,
    left(CAST(work_change."value"."SuccYN"."S" AS VARCHAR(65535)), 1) AS left_4,
    left(CAST(work_change."value"."ResultMsg"."S" AS VARCHAR(65535)), 16383) AS left_5, CASE
    WHEN (CAST(work_change."value"."CallNo"."N" AS VARCHAR(65535)) ~ '^-?[0-9]{1,18}$') THEN CAST(CAST(work_change."value"."CallNo"."N" AS VARCHAR(65535)) AS BIGINT) ELSE NULL END AS anon_1,
    left(CAST(work_change."value"."Status"."S" AS VARCHAR(65535)), 16) AS left_6,
    left(CAST(work_change."value"."ErrorType"."S" AS VARCHAR(65535)), 255) AS left_7, CASE
    WHEN (CAST(work_change."value"."DurationMs"."N" AS VARCHAR(65535)) ~ '^-?[0-9]{1,18}([.][0-9]+)?$') THEN CAST(CAST(work_change."value"."DurationMs"."N" AS VARCHAR(65535)) AS DOUBLE PRECISION) ELSE NULL END AS anon_2,
    CASE
    WHEN (CAST(work_change."value"."InputTokens"."N" AS VARCHAR(65535)) ~ '^-?[0-9]{1,18}$') THEN CAST(CAST(work_change."value"."InputTokens"."N" AS VARCHAR(65535)) AS BIGINT) ELSE NULL END AS anon_3,
    CASE
    WHEN (CAST(work_change."value"."OutputTokens"."N" AS VARCHAR(65535)) ~ '^-?[0-9]{1,18}$') THEN CAST(CAST(work_change."value"."OutputTokens"."N" AS VARCHAR(65535)) AS BIGINT) ELSE NULL END AS anon_4,
    work_change.loaded_at
FROM work_change
WHERE work_change.kind = CAST('UserSessPrcToolMappHist' AS VARCHAR(92)) AND work_change.present = 1;
