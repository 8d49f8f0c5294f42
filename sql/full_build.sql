-- Build every table from scratch, instead of 10 to 19; this needs history mode.

BEGIN;

-- Wait until no other refresh runs: two at once would count twice.
LOCK TABLE work_change;

-- Empty work_change by DELETE, because TRUNCATE would commit.
DELETE FROM work_change;

-- Empty work_session by DELETE, because TRUNCATE would commit.
DELETE FROM work_session;

-- Empty work_execution by DELETE, because TRUNCATE would commit.
DELETE FROM work_execution;

-- Empty work_call by DELETE, because TRUNCATE would commit.
DELETE FROM work_call;

-- Empty work_daily by DELETE, because TRUNCATE would commit.
DELETE FROM work_daily;

-- Empty work_tool by DELETE, because TRUNCATE would commit.
DELETE FROM work_tool;

-- Empty work_user by DELETE, because TRUNCATE would commit.
DELETE FROM work_user;

-- Empty work_pattern by DELETE, because TRUNCATE would commit.
DELETE FROM work_pattern;

-- Empty domain by DELETE, because TRUNCATE would commit.
DELETE FROM domain;

-- Empty agent by DELETE, because TRUNCATE would commit.
DELETE FROM agent;

-- Empty tool by DELETE, because TRUNCATE would commit.
DELETE FROM tool;

-- Empty userinfo by DELETE, because TRUNCATE would commit.
DELETE FROM userinfo;

-- Empty usersession by DELETE, because TRUNCATE would commit.
DELETE FROM usersession;

-- Empty session_outcome by DELETE, because TRUNCATE would commit.
DELETE FROM session_outcome;

-- Empty usersessionprocess by DELETE, because TRUNCATE would commit.
DELETE FROM usersessionprocess;

-- Empty user_tool_mapping_hist by DELETE, because TRUNCATE would commit.
DELETE FROM user_tool_mapping_hist;

-- Empty suggestion by DELETE, because TRUNCATE would commit.
DELETE FROM suggestion;

-- Find all items except calls, which are most of them; so each item's kind is checked twice, not eight times.
INSERT INTO work_change ("PK", "SK", "value", kind, present, loaded_at) SELECT item."PK", item."SK",
    item."value", item.kind, item.present, item.loaded_at
FROM (SELECT landed."PK" AS "PK", landed."SK" AS "SK", landed."value" AS "value", CASE
    WHEN (CAST(landed."value"."EntityType"."S" AS VARCHAR(65535)) ~ '^[ -~]*$') THEN left(CAST(landed."value"."EntityType"."S" AS VARCHAR(65535)),
    64) ELSE NULL END AS kind, 1 AS present, landed._record_create_time AS loaded_at
FROM dbagent.public."AgentTable" AS landed LEFT OUTER JOIN (SELECT living."PK" AS "PK", living."SK" AS "SK",
    count(*) AS times
FROM dbagent.public."AgentTable" AS living
WHERE living._record_is_active GROUP BY living."PK", living."SK") AS known ON known."PK" = landed."PK"
    AND known."SK" = landed."SK"
WHERE landed._record_is_active AND coalesce(known.times, 0) = 1 AND NOT (EXISTS (SELECT *
FROM erased_user
WHERE erased_user.userkey = md5(split_part(landed."PK", '#', 1)) AND coalesce(CASE
    WHEN (CAST(landed."value"."Version"."N" AS VARCHAR(65535)) ~ '^-?[0-9]{1,18}$') THEN CAST(CAST(landed."value"."Version"."N" AS VARCHAR(65535)) AS BIGINT) ELSE NULL END,
    CAST(floor(CAST(EXTRACT(epoch FROM landed._record_create_time) AS DOUBLE PRECISION) * 1000) AS BIGINT) * 65536,
    0) < erased_user.erased_before)) UNION ALL SELECT ranked."PK" AS "PK", ranked."SK" AS "SK",
    ranked."value" AS "value", ranked.kind AS kind, CASE WHEN (ranked.active OR CASE
    WHEN (CAST(ranked."value"."ExpiresAt"."N" AS VARCHAR(65535)) ~ '^-?[0-9]{1,18}([.][0-9]{1,38})?$') THEN CAST(CAST(ranked."value"."ExpiresAt"."N" AS VARCHAR(65535)) AS DOUBLE PRECISION) ELSE NULL END <= EXTRACT(epoch FROM ranked.gone)
    AND NOT coalesce(coalesce(CASE
    WHEN (CAST(ranked."value"."Version"."N" AS VARCHAR(65535)) ~ '^-?[0-9]{1,18}$') THEN CAST(CAST(ranked."value"."Version"."N" AS VARCHAR(65535)) AS BIGINT) ELSE NULL END,
    CAST(floor(CAST(EXTRACT(epoch FROM ranked.loaded_at) AS DOUBLE PRECISION) * 1000) AS BIGINT) * 65536,
    0) <= marks.before, false)) THEN 1 ELSE 0 END AS present, ranked.loaded_at AS loaded_at
FROM (SELECT others."PK" AS "PK", others."SK" AS "SK", others."value" AS "value", others.kind AS kind,
    others.loaded_at AS loaded_at, others.active AS active, others.gone AS gone,
    row_number() OVER (PARTITION BY others."PK", others."SK" ORDER BY CASE
    WHEN others.active THEN 0 ELSE 1 END, others.loaded_at DESC, coalesce(others.gone,
    others.loaded_at) DESC) AS place
FROM (SELECT landed."PK" AS "PK", landed."SK" AS "SK", landed."value" AS "value", CASE
    WHEN (CAST(landed."value"."EntityType"."S" AS VARCHAR(65535)) ~ '^[ -~]*$') THEN left(CAST(landed."value"."EntityType"."S" AS VARCHAR(65535)),
    64) ELSE NULL END AS kind, landed._record_create_time AS loaded_at, landed._record_is_active AS active,
    landed._record_delete_time AS gone
FROM dbagent.public."AgentTable" AS landed LEFT OUTER JOIN (SELECT living."PK" AS "PK", living."SK" AS "SK",
    count(*) AS times
FROM dbagent.public."AgentTable" AS living
WHERE living._record_is_active GROUP BY living."PK", living."SK") AS known ON known."PK" = landed."PK"
    AND known."SK" = landed."SK"
WHERE (coalesce(known.times, 0) > 1 OR coalesce(known.times, 0) = 0) AND NOT (EXISTS (SELECT *
FROM erased_user
WHERE erased_user.userkey = md5(split_part(landed."PK", '#', 1)) AND coalesce(CASE
    WHEN (CAST(landed."value"."Version"."N" AS VARCHAR(65535)) ~ '^-?[0-9]{1,18}$') THEN CAST(CAST(landed."value"."Version"."N" AS VARCHAR(65535)) AS BIGINT) ELSE NULL END,
    CAST(floor(CAST(EXTRACT(epoch FROM landed._record_create_time) AS DOUBLE PRECISION) * 1000) AS BIGINT) * 65536,
    0) < erased_user.erased_before))) AS others) AS ranked LEFT OUTER JOIN (SELECT mark."PK" AS name,
    max(CASE
    WHEN (CAST(mark."value"."Version"."N" AS VARCHAR(65535)) ~ '^-?[0-9]{1,18}$') THEN CAST(CAST(mark."value"."Version"."N" AS VARCHAR(65535)) AS BIGINT) ELSE NULL END) AS before
FROM dbagent.public."AgentTable" AS mark
WHERE mark."PK" BETWEEN CAST('DELETED#' AS VARCHAR(32))
    AND CAST('DELETED$' AS VARCHAR(32)) GROUP BY mark."PK") AS marks ON marks.name = (CAST('DELETED#' AS VARCHAR(32)) || md5(ranked."PK" || CAST('#' AS VARCHAR(4)) || ranked."SK"))
WHERE ranked.place = 1) AS item
WHERE item.kind != CAST('UserSessPrcToolMappHist' AS VARCHAR(92));

-- Read the items of kind Domain into domain.
INSERT INTO domain (domainid, domainnm, description, load_timestamp) SELECT left(work_change."PK",
    132) AS left_1, left(CAST(work_change."value"."DomainNM"."S" AS VARCHAR(65535)), 255) AS left_2,
    left(CAST(work_change."value"."Description"."S" AS VARCHAR(65535)), 4000) AS left_3, work_change.loaded_at
FROM work_change
WHERE work_change.kind = CAST('Domain' AS VARCHAR(24)) AND work_change.present = 1
    AND length(work_change."PK") <= 132;

-- Read the items of kind Agent into agent.
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

-- Read the items of kind Tool into tool.
INSERT INTO tool (agentid, toolid, domainid, toolnm, toolspec, description,
    load_timestamp) SELECT left(work_change."PK", 132) AS left_1, left(work_change."SK", 132) AS left_2,
    left(CAST(work_change."value"."GSI1_PK"."S" AS VARCHAR(65535)), 132) AS left_3,
    left(CAST(work_change."value"."ToolNM"."S" AS VARCHAR(65535)), 255) AS left_4,
    left(CAST(work_change."value"."ToolSpec"."S" AS VARCHAR(65535)), 16383) AS left_5,
    left(CAST(work_change."value"."Description"."S" AS VARCHAR(65535)), 4000) AS left_6, work_change.loaded_at
FROM work_change
WHERE work_change.kind = CAST('Tool' AS VARCHAR(16)) AND work_change.present = 1
    AND length(work_change."PK") <= 132 AND length(work_change."SK") <= 132;

-- Read the items of kind UserInfo into userinfo.
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

-- Read the items of kind UserSession into usersession.
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

-- Read the items of kind Review into session_outcome.
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

-- Read the items of kind UserSessionProcess into usersessionprocess.
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

-- Read the items of kind UserSessPrcToolMappHist into user_tool_mapping_hist.
INSERT INTO user_tool_mapping_hist (userid, sessionid, processid, agentid, toolid, attempt, toolnm,
    toolvalues, transactdt, succyn, resultmsg, callno, status, errortype, durationms, inputtokens,
    outputtokens, cachedtokens, cachewritetokens, reasoningtokens, modelnm, requestinputtokens, agentver,
    load_timestamp) SELECT left(split_part(unpacked."PK", '#', 1), 132) AS left_1,
    left(split_part(unpacked."PK", '#', 2), 132) AS left_2, left(split_part(unpacked."SK", '#', 1),
    132) AS left_3, left(split_part(unpacked."SK", '#', 2), 132) AS left_4, left(split_part(unpacked."SK",
    '#', 3), 132) AS left_5, coalesce(CASE WHEN (ltrim(split_part(unpacked."SK", '#', 4),
    'ABCDEFGHIJ') ~ '^-?[0-9]{1,9}$') THEN CAST(ltrim(split_part(unpacked."SK", '#', 4),
    'ABCDEFGHIJ') AS INTEGER) ELSE NULL END, 1) AS coalesce_1,
    left(CAST(unpacked."value"."ToolNM"."S" AS VARCHAR(65535)), 255) AS left_6,
    left(CAST(unpacked."value"."ToolValues"."S" AS VARCHAR(65535)), 16383) AS left_7, CASE
    WHEN (CAST(unpacked."value"."TransactDT"."S" AS VARCHAR(65535)) ~ '^[ -~]*$') THEN left(CAST(unpacked."value"."TransactDT"."S" AS VARCHAR(65535)),
    20) ELSE NULL END AS anon_1, CASE
    WHEN (CAST(unpacked."value"."SuccYN"."S" AS VARCHAR(65535)) ~ '^[ -~]*$') THEN left(CAST(unpacked."value"."SuccYN"."S" AS VARCHAR(65535)),
    1) ELSE NULL END AS anon_2, left(CAST(unpacked."value"."ResultMsg"."S" AS VARCHAR(65535)),
    16383) AS left_8, CASE
    WHEN (CAST(unpacked."value"."CallNo"."N" AS VARCHAR(65535)) ~ '^-?[0-9]{1,18}$') THEN CAST(CAST(unpacked."value"."CallNo"."N" AS VARCHAR(65535)) AS BIGINT) ELSE NULL END AS anon_3,
    CASE
    WHEN (CAST(unpacked."value"."Status"."S" AS VARCHAR(65535)) ~ '^[ -~]*$') THEN left(CAST(unpacked."value"."Status"."S" AS VARCHAR(65535)),
    16) ELSE NULL END AS anon_4, left(CAST(unpacked."value"."ErrorType"."S" AS VARCHAR(65535)),
    255) AS left_9, CASE
    WHEN (CAST(unpacked."value"."DurationMs"."N" AS VARCHAR(65535)) ~ '^-?[0-9]{1,18}([.][0-9]{1,38})?$') THEN CAST(CAST(unpacked."value"."DurationMs"."N" AS VARCHAR(65535)) AS DOUBLE PRECISION) ELSE NULL END AS anon_5,
    CASE
    WHEN (CAST(unpacked."value"."InputTokens"."N" AS VARCHAR(65535)) ~ '^[0-9]{1,13}$') THEN CAST(CAST(unpacked."value"."InputTokens"."N" AS VARCHAR(65535)) AS BIGINT) ELSE NULL END AS anon_6,
    CASE
    WHEN (CAST(unpacked."value"."OutputTokens"."N" AS VARCHAR(65535)) ~ '^[0-9]{1,13}$') THEN CAST(CAST(unpacked."value"."OutputTokens"."N" AS VARCHAR(65535)) AS BIGINT) ELSE NULL END AS anon_7,
    CASE
    WHEN (CAST(unpacked."value"."CachedTokens"."N" AS VARCHAR(65535)) ~ '^[0-9]{1,13}$') THEN CAST(CAST(unpacked."value"."CachedTokens"."N" AS VARCHAR(65535)) AS BIGINT) ELSE NULL END AS anon_8,
    CASE
    WHEN (CAST(unpacked."value"."CacheWriteTokens"."N" AS VARCHAR(65535)) ~ '^[0-9]{1,13}$') THEN CAST(CAST(unpacked."value"."CacheWriteTokens"."N" AS VARCHAR(65535)) AS BIGINT) ELSE NULL END AS anon_9,
    CASE
    WHEN (CAST(unpacked."value"."ReasoningTokens"."N" AS VARCHAR(65535)) ~ '^[0-9]{1,13}$') THEN CAST(CAST(unpacked."value"."ReasoningTokens"."N" AS VARCHAR(65535)) AS BIGINT) ELSE NULL END AS anon_10,
    left(CAST(unpacked."value"."ModelNM"."S" AS VARCHAR(65535)), 255) AS left_10, CASE
    WHEN (CAST(unpacked."value"."RequestInputTokens"."N" AS VARCHAR(65535)) ~ '^[0-9]{1,13}$') THEN CAST(CAST(unpacked."value"."RequestInputTokens"."N" AS VARCHAR(65535)) AS BIGINT) ELSE NULL END AS anon_11,
    left(CAST(unpacked."value"."AgentVer"."S" AS VARCHAR(65535)), 255) AS left_11, unpacked.loaded_at
FROM (SELECT item."PK" AS "PK", item."SK" AS "SK", item.kind AS kind, item.present AS present,
    item.loaded_at AS loaded_at, item."value" AS "value"
FROM (SELECT landed."PK" AS "PK", landed."SK" AS "SK", landed."value" AS "value", CASE
    WHEN (CAST(landed."value"."EntityType"."S" AS VARCHAR(65535)) ~ '^[ -~]*$') THEN left(CAST(landed."value"."EntityType"."S" AS VARCHAR(65535)),
    64) ELSE NULL END AS kind, 1 AS present, landed._record_create_time AS loaded_at
FROM dbagent.public."AgentTable" AS landed LEFT OUTER JOIN (SELECT living."PK" AS "PK", living."SK" AS "SK",
    count(*) AS times
FROM dbagent.public."AgentTable" AS living
WHERE living._record_is_active GROUP BY living."PK", living."SK") AS known ON known."PK" = landed."PK"
    AND known."SK" = landed."SK"
WHERE landed._record_is_active AND coalesce(known.times, 0) = 1 AND NOT (EXISTS (SELECT *
FROM erased_user
WHERE erased_user.userkey = md5(split_part(landed."PK", '#', 1)) AND coalesce(CASE
    WHEN (CAST(landed."value"."Version"."N" AS VARCHAR(65535)) ~ '^-?[0-9]{1,18}$') THEN CAST(CAST(landed."value"."Version"."N" AS VARCHAR(65535)) AS BIGINT) ELSE NULL END,
    CAST(floor(CAST(EXTRACT(epoch FROM landed._record_create_time) AS DOUBLE PRECISION) * 1000) AS BIGINT) * 65536,
    0) < erased_user.erased_before)) UNION ALL SELECT ranked."PK" AS "PK", ranked."SK" AS "SK",
    ranked."value" AS "value", ranked.kind AS kind, CASE WHEN (ranked.active OR CASE
    WHEN (CAST(ranked."value"."ExpiresAt"."N" AS VARCHAR(65535)) ~ '^-?[0-9]{1,18}([.][0-9]{1,38})?$') THEN CAST(CAST(ranked."value"."ExpiresAt"."N" AS VARCHAR(65535)) AS DOUBLE PRECISION) ELSE NULL END <= EXTRACT(epoch FROM ranked.gone)
    AND NOT coalesce(coalesce(CASE
    WHEN (CAST(ranked."value"."Version"."N" AS VARCHAR(65535)) ~ '^-?[0-9]{1,18}$') THEN CAST(CAST(ranked."value"."Version"."N" AS VARCHAR(65535)) AS BIGINT) ELSE NULL END,
    CAST(floor(CAST(EXTRACT(epoch FROM ranked.loaded_at) AS DOUBLE PRECISION) * 1000) AS BIGINT) * 65536,
    0) <= marks.before, false)) THEN 1 ELSE 0 END AS present, ranked.loaded_at AS loaded_at
FROM (SELECT others."PK" AS "PK", others."SK" AS "SK", others."value" AS "value", others.kind AS kind,
    others.loaded_at AS loaded_at, others.active AS active, others.gone AS gone,
    row_number() OVER (PARTITION BY others."PK", others."SK" ORDER BY CASE
    WHEN others.active THEN 0 ELSE 1 END, others.loaded_at DESC, coalesce(others.gone,
    others.loaded_at) DESC) AS place
FROM (SELECT landed."PK" AS "PK", landed."SK" AS "SK", landed."value" AS "value", CASE
    WHEN (CAST(landed."value"."EntityType"."S" AS VARCHAR(65535)) ~ '^[ -~]*$') THEN left(CAST(landed."value"."EntityType"."S" AS VARCHAR(65535)),
    64) ELSE NULL END AS kind, landed._record_create_time AS loaded_at, landed._record_is_active AS active,
    landed._record_delete_time AS gone
FROM dbagent.public."AgentTable" AS landed LEFT OUTER JOIN (SELECT living."PK" AS "PK", living."SK" AS "SK",
    count(*) AS times
FROM dbagent.public."AgentTable" AS living
WHERE living._record_is_active GROUP BY living."PK", living."SK") AS known ON known."PK" = landed."PK"
    AND known."SK" = landed."SK"
WHERE (coalesce(known.times, 0) > 1 OR coalesce(known.times, 0) = 0) AND NOT (EXISTS (SELECT *
FROM erased_user
WHERE erased_user.userkey = md5(split_part(landed."PK", '#', 1)) AND coalesce(CASE
    WHEN (CAST(landed."value"."Version"."N" AS VARCHAR(65535)) ~ '^-?[0-9]{1,18}$') THEN CAST(CAST(landed."value"."Version"."N" AS VARCHAR(65535)) AS BIGINT) ELSE NULL END,
    CAST(floor(CAST(EXTRACT(epoch FROM landed._record_create_time) AS DOUBLE PRECISION) * 1000) AS BIGINT) * 65536,
    0) < erased_user.erased_before))) AS others) AS ranked LEFT OUTER JOIN (SELECT mark."PK" AS name,
    max(CASE
    WHEN (CAST(mark."value"."Version"."N" AS VARCHAR(65535)) ~ '^-?[0-9]{1,18}$') THEN CAST(CAST(mark."value"."Version"."N" AS VARCHAR(65535)) AS BIGINT) ELSE NULL END) AS before
FROM dbagent.public."AgentTable" AS mark
WHERE mark."PK" BETWEEN CAST('DELETED#' AS VARCHAR(32))
    AND CAST('DELETED$' AS VARCHAR(32)) GROUP BY mark."PK") AS marks ON marks.name = (CAST('DELETED#' AS VARCHAR(32)) || md5(ranked."PK" || CAST('#' AS VARCHAR(4)) || ranked."SK"))
WHERE ranked.place = 1) AS item) AS unpacked
WHERE unpacked.kind = CAST('UserSessPrcToolMappHist' AS VARCHAR(92)) AND unpacked.present = 1
    AND length(split_part(unpacked."PK", '#', 1)) <= 132 AND length(split_part(unpacked."PK", '#', 2)) <= 132
    AND length(split_part(unpacked."SK", '#', 1)) <= 132 AND length(split_part(unpacked."SK", '#', 2)) <= 132
    AND length(split_part(unpacked."SK", '#', 3)) <= 132;

-- Read the items of kind Suggestion into suggestion.
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

-- Empty agent_execution by DELETE, because TRUNCATE would commit.
DELETE FROM agent_execution;

-- Empty agent_daily by DELETE, because TRUNCATE would commit.
DELETE FROM agent_daily;

-- Empty agent_tool by DELETE, because TRUNCATE would commit.
DELETE FROM agent_tool;

-- Empty user_process_patterns by DELETE, because TRUNCATE would commit.
DELETE FROM user_process_patterns;

-- Insert one row per user, session and agent, in the order of sessions, so that look-ups read few blocks.
INSERT INTO agent_execution (userid, sessionid, agentid, category, success, calls, first_date,
    execution_date, seconds, process_pattern, tool_sequence, pattern_key, agentver,
    last_time) WITH reported AS
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
 SELECT whole.userid, whole.sessionid, whole.agentid, coalesce(CASE WHEN (usersession.category = ''
    OR left(usersession.category, 1) = CAST('~' AS VARCHAR(4))) THEN NULL ELSE usersession.category END,
    derived_category.category, '') AS category, CASE
    WHEN (usersession.reviewedsuccyn = CAST('Y' AS VARCHAR(4))) THEN 1
    WHEN (usersession.reviewedsuccyn = CAST('N' AS VARCHAR(4))) THEN 0
    WHEN (right(greatest(coalesce(of_all.best, ''), coalesce(of_agent.best, '')),
    1) = CAST('0' AS VARCHAR(4))) THEN 1 WHEN (right(greatest(coalesce(of_all.best, ''),
    coalesce(of_agent.best, '')), 1) = CAST('1' AS VARCHAR(4))) THEN 0
    WHEN (usersession.sessionsuccyn = CAST('Y' AS VARCHAR(4))) THEN 1
    WHEN (usersession.sessionsuccyn = CAST('N' AS VARCHAR(4))) THEN 0 ELSE whole.ok END AS success,
    whole.calls, whole.first_day, whole.last_day, whole.seconds, whole.process_pattern, whole.tool_sequence,
    md5(whole.userid || '#' || whole.agentid || '#' || md5(coalesce(CASE WHEN (usersession.category = ''
    OR left(usersession.category, 1) = CAST('~' AS VARCHAR(4))) THEN NULL ELSE usersession.category END,
    derived_category.category,
    '')) || '#' || md5(whole.process_pattern) || '#' || md5(whole.tool_sequence)) AS pattern_key,
    coalesce(left(right(whole.version, length(whole.version) - 20), 255), '') AS revision, whole.last_time
FROM (SELECT step.userid AS userid, step.sessionid AS sessionid, step.agentid AS agentid, min(step.ok) AS ok,
    CAST(least(CAST(least(greatest(sum(CAST(step.calls AS BIGINT)), -4000000000000000000),
    4000000000000000000) AS BIGINT), 2147483647) AS INTEGER) AS calls, min(step.first_day) AS first_day,
    max(step.last_day) AS last_day, max(step.last_time) AS last_time, max(step.version) AS version,
    (CAST(sum(step.milliseconds) AS DOUBLE PRECISION) / CAST(1000 AS DOUBLE PRECISION)) AS seconds,
    LISTAGG(CASE WHEN (step.place <= 200) THEN left(step.processid, 80) END,
    '->') WITHIN GROUP (ORDER BY step.place) AS process_pattern, LISTAGG(CASE
    WHEN (step.place <= 200) THEN left(step.label, 80) END,
    '->') WITHIN GROUP (ORDER BY step.place) AS tool_sequence
FROM (SELECT uses.userid AS userid, uses.sessionid AS sessionid, uses.agentid AS agentid,
    uses.processid AS processid, uses.toolid AS toolid, uses.ok AS ok, uses.label AS label,
    uses.number AS number, uses.clock AS clock, uses.first_day AS first_day, uses.last_day AS last_day,
    uses.last_time AS last_time, uses.version AS version, uses.calls AS calls,
    uses.milliseconds AS milliseconds, row_number() OVER (PARTITION BY uses.userid, uses.sessionid,
    uses.agentid ORDER BY uses.number, uses.clock, uses.processid, uses.toolid) AS place
FROM (SELECT c.userid AS userid, c.sessionid AS sessionid, c.agentid AS agentid, c.processid AS processid,
    c.toolid AS toolid, mod(max(c.attempt * 2 + c.ok), 2) AS ok, coalesce(max(nullif(c.toolnm, '')),
    c.toolid) AS label, min(coalesce(c.callno, 4611686018427387904)) AS number, min(coalesce(c.clock,
    CAST('99999999999999999999' AS VARCHAR(80)))) AS clock, min(c.day) AS first_day, max(c.day) AS last_day,
    max(c.clock) AS last_time, max(coalesce(c.clock,
    CAST('00000000000000000000' AS VARCHAR(80))) || c.revision) AS version, count(c.ok) AS calls,
    sum(c.durationms) AS milliseconds
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
    CAST('cache_hit' AS VARCHAR(36)))) AS c GROUP BY c.userid, c.sessionid, c.agentid, c.processid,
    c.toolid) AS uses) AS step GROUP BY step.userid, step.sessionid, step.agentid
HAVING min(step.ok) IS NOT NULL) AS whole LEFT OUTER JOIN usersession ON usersession.userid = whole.userid
    AND usersession.sessionid = whole.sessionid LEFT OUTER JOIN (SELECT ranked.userid AS userid,
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
    LEFT OUTER JOIN derived_category ON derived_category.userid = usersession.userid
    AND derived_category.requestkey = CASE WHEN (CASE WHEN (usersession.category = ''
    OR left(usersession.category,
    1) = CAST('~' AS VARCHAR(4))) THEN NULL ELSE usersession.category END IS NULL) THEN md5(coalesce(nullif(usersession.userrequest,
    ''), opening.userprompt)) END LEFT OUTER JOIN reported AS of_all ON of_all.userid = whole.userid
    AND of_all.sessionid = whole.sessionid AND of_all.agent_id = CAST('' AS VARCHAR(4))
    LEFT OUTER JOIN reported AS of_agent ON of_agent.userid = whole.userid
    AND of_agent.sessionid = whole.sessionid AND whole.agentid = of_agent.agent_id ORDER BY 2, 1;

-- Delete derived categories that no execution has any more.
DELETE FROM derived_category
    WHERE ((derived_category.userid || '#' || derived_category.category) NOT IN (SELECT agent_execution.userid || '#' || agent_execution.category AS anon_1
FROM agent_execution));

-- Count executions and successes per agent, category and day.
INSERT INTO agent_daily (agentid, category, agentver, execution_date, executions,
    successes) SELECT agent_execution.agentid, agent_execution.category, coalesce(agent_execution.agentver,
    '') AS revision, coalesce(agent_execution.execution_date, CAST('0001-01-01' AS DATE)) AS day,
    CAST(least(greatest(sum(CAST(1 AS BIGINT)), -4000000000000000000),
    4000000000000000000) AS BIGINT) AS executions,
    CAST(least(greatest(sum(CAST(1 * agent_execution.success AS BIGINT)), -4000000000000000000),
    4000000000000000000) AS BIGINT) AS successes
FROM agent_execution GROUP BY agent_execution.agentid, agent_execution.category,
    coalesce(agent_execution.agentver, ''), coalesce(agent_execution.execution_date,
    CAST('0001-01-01' AS DATE));

-- Count calls, errors and tokens per agent and tool.
INSERT INTO agent_tool (agentid, toolid, toolnm, calls, errors, inputtokens, outputtokens) SELECT c.agentid,
    c.toolid, coalesce(c.toolnm, '') AS name, count(*) AS calls,
    CAST(least(greatest(sum(CAST(1 - c.ok AS BIGINT)), -4000000000000000000),
    4000000000000000000) AS BIGINT) AS errors, CAST(least(greatest(sum(CAST(coalesce(c.inputtokens,
    0) AS BIGINT)), -4000000000000000000), 4000000000000000000) AS BIGINT) AS inputs,
    CAST(least(greatest(sum(CAST(coalesce(c.outputtokens, 0) AS BIGINT)), -4000000000000000000),
    4000000000000000000) AS BIGINT) AS outputs
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
    '') IN (CAST('ok' AS VARCHAR(8)), CAST('error' AS VARCHAR(20)))) AS c GROUP BY c.agentid, c.toolid,
    coalesce(c.toolnm, '');

-- Empty work_pattern by DELETE, because TRUNCATE would commit.
DELETE FROM work_pattern;

-- Find every user's patterns, and compute their scores.
INSERT INTO work_pattern (userid, category, agent_sequence, process_pattern, tool_sequence, pattern_key,
    execution_count, success_count, avg_execution_time, first_used_date, last_used_date, decay_date,
    pattern_score) SELECT q.user_id, q.category, q.agent_id, q.process_pattern, q.tool_sequence,
    q.pattern_key, q.executions, q.successes, q.seconds, q.first_day, q.last_day, q.decay_day,
    CAST(q.executions AS DOUBLE PRECISION) * CASE
    WHEN (q.decay_day IS NULL) THEN CAST(1.0 AS DOUBLE PRECISION) ELSE exp(-least(CAST(0.05 AS DOUBLE PRECISION) * greatest(0,
    DATEDIFF(day, q.decay_day, least(q.newest, (SELECT max(refresh_terms.as_of) AS max_1
FROM refresh_terms)))),
    CAST(700.0 AS DOUBLE PRECISION))) END * power((CAST(q.successes AS DOUBLE PRECISION) / CAST(q.executions AS DOUBLE PRECISION)),
    2) AS anon_1
FROM (SELECT p.user_id AS user_id, p.category AS category, p.agent_id AS agent_id,
    p.process_pattern AS process_pattern, p.tool_sequence AS tool_sequence, p.pattern_key AS pattern_key,
    p.executions AS executions, p.successes AS successes, p.seconds AS seconds, p.first_day AS first_day,
    p.last_day AS last_day, coalesce(p.last_day, min(p.last_day) OVER (PARTITION BY p.user_id)) AS decay_day,
    max(p.last_day) OVER (PARTITION BY p.user_id) AS newest
FROM (SELECT min(agent_execution.userid) AS user_id, min(agent_execution.category) AS category,
    min(agent_execution.agentid) AS agent_id, min(agent_execution.process_pattern) AS process_pattern,
    min(agent_execution.tool_sequence) AS tool_sequence, agent_execution.pattern_key AS pattern_key,
    count(*) AS executions, CAST(least(greatest(sum(CAST(agent_execution.success AS BIGINT)),
    -4000000000000000000), 4000000000000000000) AS BIGINT) AS successes,
    avg(agent_execution.seconds) AS seconds, min(agent_execution.first_date) AS first_day,
    max(agent_execution.execution_date) AS last_day
FROM agent_execution GROUP BY agent_execution.pattern_key) AS p) AS q;

-- Insert the patterns; from the 80th percentile of their user and category up they are recommended.
INSERT INTO user_process_patterns (userid, category, agent_sequence, process_pattern, tool_sequence,
    pattern_key, execution_count, success_count, avg_execution_time, first_used_date, last_used_date,
    decay_date, pattern_score, is_recommended) SELECT work_pattern.userid, work_pattern.category,
    work_pattern.agent_sequence, work_pattern.process_pattern, work_pattern.tool_sequence,
    work_pattern.pattern_key, work_pattern.execution_count, work_pattern.success_count,
    work_pattern.avg_execution_time, work_pattern.first_used_date, work_pattern.last_used_date,
    work_pattern.decay_date, work_pattern.pattern_score, CASE WHEN (work_pattern.success_count > 0
    AND work_pattern.pattern_score >= best.threshold * CAST(0.999999999 AS DOUBLE PRECISION)) THEN TRUE ELSE FALSE END AS anon_1
FROM work_pattern JOIN (SELECT work_pattern.userid AS userid, work_pattern.category AS category,
    percentile_cont(0.8) WITHIN GROUP (ORDER BY work_pattern.pattern_score) AS threshold
FROM work_pattern GROUP BY work_pattern.userid,
    work_pattern.category) AS best ON best.userid = work_pattern.userid
    AND best.category = work_pattern.category;

-- Empty agent_score_summary by DELETE, because TRUNCATE would commit.
DELETE FROM agent_score_summary;

-- Compute every agent's score and evidence as of the day.
INSERT INTO agent_score_summary (domainid, agentid, agentnm, total_executions, success_count, failure_count,
    success_rate, last_execution_date, days_since_last_exec, time_decay_factor, calculated_score,
    evidence_score, evidence_executions, domain_rate, agentver, revision_executions, revision_successes,
    counted_executions, counted_successes, updated_at) WITH present AS
(SELECT timed.agentid AS agentid, timed.agentver AS agentver, timed.executions AS executions,
    timed.successes AS successes, least(CAST(1.0 AS DOUBLE PRECISION),
    (CAST((SELECT max(refresh_terms.revision_prior) AS max_3
FROM refresh_terms) AS DOUBLE PRECISION) / CAST(greatest(all_runs.executions - timed.executions,
    1) AS DOUBLE PRECISION))) * power(CAST(0.5 AS DOUBLE PRECISION),
    least((CAST(timed.executions AS DOUBLE PRECISION) / CAST((SELECT max(refresh_terms.revision_prior) AS max_3
FROM refresh_terms) AS DOUBLE PRECISION)), CAST(60.0 AS DOUBLE PRECISION))) AS weight
FROM (SELECT runs.agentid AS agentid, runs.agentver AS agentver, runs.executions AS executions,
    runs.successes AS successes,
    row_number() OVER (PARTITION BY runs.agentid ORDER BY coalesce(max(agent_execution.last_time), '') DESC,
    runs.agentver DESC) AS place
FROM (SELECT agent_daily.agentid AS agentid, agent_daily.agentver AS agentver,
    CAST(least(greatest(sum(CAST(agent_daily.executions AS BIGINT)), -4000000000000000000),
    4000000000000000000) AS BIGINT) AS executions,
    CAST(least(greatest(sum(CAST(agent_daily.successes AS BIGINT)), -4000000000000000000),
    4000000000000000000) AS BIGINT) AS successes, max(agent_daily.execution_date) AS day,
    rank() OVER (PARTITION BY agent_daily.agentid ORDER BY max(agent_daily.execution_date) DESC) AS age
FROM agent_daily
WHERE agent_daily.agentver != '' GROUP BY agent_daily.agentid, agent_daily.agentver) AS runs
    LEFT OUTER JOIN agent_execution ON agent_execution.agentid = runs.agentid
    AND agent_execution.agentver = runs.agentver AND coalesce(agent_execution.execution_date,
    CAST('0001-01-01' AS DATE)) = runs.day
WHERE runs.age = 1 GROUP BY runs.agentid, runs.agentver, runs.executions, runs.successes) AS timed
    JOIN (SELECT agent_daily.agentid AS agentid,
    CAST(least(greatest(sum(CAST(agent_daily.executions AS BIGINT)), -4000000000000000000),
    4000000000000000000) AS BIGINT) AS executions
FROM agent_daily GROUP BY agent_daily.agentid) AS all_runs ON all_runs.agentid = timed.agentid
WHERE timed.place = 1),
cell AS
(SELECT rated.domain_id AS domain_id, rated.agent_id AS agent_id, rated.name AS name,
    rated.own_day AS own_day, rated.category AS category, rated.revision AS revision,
    rated.revision_executions AS revision_executions, rated.revision_successes AS revision_successes,
    rated.executions AS executions, rated.successes AS successes, rated.last_day AS last_day,
    rated.counted AS counted, rated.counted_good AS counted_good, rated.weighed AS weighed,
    rated.good AS good, rated.domain_rate AS domain_rate,
    rated.good - rated.weighed * rated.domain_rate AS residual
FROM (SELECT sums.domain_id AS domain_id, sums.agent_id AS agent_id, sums.name AS name,
    sums.own_day AS own_day, sums.category AS category, sums.revision AS revision,
    sums.revision_executions AS revision_executions, sums.revision_successes AS revision_successes,
    sums.executions AS executions, sums.successes AS successes, sums.last_day AS last_day,
    sums.counted AS counted, sums.counted_good AS counted_good, sums.weighed AS weighed, sums.good AS good,
    (CAST(sum(sums.good) OVER (PARTITION BY sums.domain_id) + CAST(1.0 AS DOUBLE PRECISION) AS DOUBLE PRECISION) / CAST(sum(sums.weighed) OVER (PARTITION BY sums.domain_id) + CAST(2.0 AS DOUBLE PRECISION) AS DOUBLE PRECISION)) AS domain_rate
FROM (SELECT rows_.domain_id AS domain_id, rows_.agent_id AS agent_id, rows_.name AS name,
    rows_.own_day AS own_day, rows_.category AS category, rows_.revision AS revision,
    rows_.revision_executions AS revision_executions, rows_.revision_successes AS revision_successes,
    CAST(least(greatest(sum(CAST(rows_.executions AS BIGINT)), -4000000000000000000),
    4000000000000000000) AS BIGINT) AS executions, CAST(least(greatest(sum(CAST(rows_.successes AS BIGINT)),
    -4000000000000000000), 4000000000000000000) AS BIGINT) AS successes, max(rows_.day) AS last_day,
    sum(CAST(rows_.executions AS DOUBLE PRECISION) * rows_.share) AS counted,
    sum(CAST(rows_.successes AS DOUBLE PRECISION) * rows_.share) AS counted_good,
    sum(CAST(rows_.executions AS DOUBLE PRECISION) * rows_.share * CASE
    WHEN (rows_.weigh_day IS NULL) THEN CAST(1.0 AS DOUBLE PRECISION) ELSE power(CAST(0.5 AS DOUBLE PRECISION),
    least((CAST(greatest(0, DATEDIFF(day, rows_.weigh_day,
    rows_.own_day)) AS DOUBLE PRECISION) / CAST((SELECT max(refresh_terms.half_life_days) AS max_2
FROM refresh_terms) AS DOUBLE PRECISION)), CAST(60.0 AS DOUBLE PRECISION))) END) AS weighed,
    sum(CAST(rows_.successes AS DOUBLE PRECISION) * rows_.share * CASE
    WHEN (rows_.weigh_day IS NULL) THEN CAST(1.0 AS DOUBLE PRECISION) ELSE power(CAST(0.5 AS DOUBLE PRECISION),
    least((CAST(greatest(0, DATEDIFF(day, rows_.weigh_day,
    rows_.own_day)) AS DOUBLE PRECISION) / CAST((SELECT max(refresh_terms.half_life_days) AS max_2
FROM refresh_terms) AS DOUBLE PRECISION)), CAST(60.0 AS DOUBLE PRECISION))) END) AS good
FROM (SELECT agent.domainid AS domain_id, agent.agentid AS agent_id, coalesce(nullif(agent.agentnm, ''),
    agent.agentid) AS name, agent_daily.category AS category, agent_daily.executions AS executions,
    agent_daily.successes AS successes, CASE WHEN (coalesce(present.agentver,
    agent_daily.agentver) = agent_daily.agentver) THEN CAST(1.0 AS DOUBLE PRECISION) ELSE present.weight END AS share,
    coalesce(present.agentver, '') AS revision, coalesce(present.executions, 0) AS revision_executions,
    coalesce(present.successes, 0) AS revision_successes, nullif(agent_daily.execution_date,
    CAST('0001-01-01' AS DATE)) AS day, coalesce(nullif(agent_daily.execution_date,
    CAST('0001-01-01' AS DATE)), min(nullif(agent_daily.execution_date,
    CAST('0001-01-01' AS DATE))) OVER (PARTITION BY agent.domainid)) AS weigh_day,
    least(max(nullif(agent_daily.execution_date,
    CAST('0001-01-01' AS DATE))) OVER (PARTITION BY agent.domainid), (SELECT max(refresh_terms.as_of) AS max_1
FROM refresh_terms)) AS own_day
FROM agent_daily JOIN agent ON agent.agentid = agent_daily.agentid
    LEFT OUTER JOIN present ON present.agentid = agent_daily.agentid
WHERE agent.domainid IS NOT NULL) AS rows_ GROUP BY rows_.domain_id, rows_.agent_id, rows_.name,
    rows_.own_day, rows_.category, rows_.revision, rows_.revision_executions,
    rows_.revision_successes) AS sums) AS rated),
category_1 AS
(SELECT cell.domain_id AS domain_id, cell.category AS category, CASE
    WHEN (cell.category = CAST('' AS VARCHAR(4))) THEN 0 ELSE (CAST(sum(cell.residual) AS DOUBLE PRECISION) / CAST(sum(cell.weighed) + CAST(1.0 AS DOUBLE PRECISION) AS DOUBLE PRECISION)) END AS effect
FROM cell GROUP BY cell.domain_id, cell.category),
agent_1 AS
(SELECT cell.agent_id AS agent_id,
    (CAST(sum(cell.residual - cell.weighed * category_1.effect) AS DOUBLE PRECISION) / CAST(sum(cell.weighed) + CAST(4.0 AS DOUBLE PRECISION) AS DOUBLE PRECISION)) AS effect
FROM cell JOIN category_1 ON category_1.domain_id = cell.domain_id
    AND category_1.category = cell.category GROUP BY cell.agent_id),
category_2 AS
(SELECT cell.domain_id AS domain_id, cell.category AS category, CASE
    WHEN (cell.category = CAST('' AS VARCHAR(4))) THEN 0 ELSE (CAST(sum(cell.residual - cell.weighed * agent_1.effect) AS DOUBLE PRECISION) / CAST(sum(cell.weighed) + CAST(1.0 AS DOUBLE PRECISION) AS DOUBLE PRECISION)) END AS effect
FROM cell JOIN agent_1 ON agent_1.agent_id = cell.agent_id GROUP BY cell.domain_id, cell.category),
agent_2 AS
(SELECT cell.agent_id AS agent_id,
    (CAST(sum(cell.residual - cell.weighed * category_2.effect) AS DOUBLE PRECISION) / CAST(sum(cell.weighed) + CAST(4.0 AS DOUBLE PRECISION) AS DOUBLE PRECISION)) AS effect
FROM cell JOIN category_2 ON category_2.domain_id = cell.domain_id
    AND category_2.category = cell.category GROUP BY cell.agent_id),
category_3 AS
(SELECT cell.domain_id AS domain_id, cell.category AS category, CASE
    WHEN (cell.category = CAST('' AS VARCHAR(4))) THEN 0 ELSE (CAST(sum(cell.residual - cell.weighed * agent_2.effect) AS DOUBLE PRECISION) / CAST(sum(cell.weighed) + CAST(1.0 AS DOUBLE PRECISION) AS DOUBLE PRECISION)) END AS effect
FROM cell JOIN agent_2 ON agent_2.agent_id = cell.agent_id GROUP BY cell.domain_id, cell.category),
agent_3 AS
(SELECT cell.agent_id AS agent_id,
    (CAST(sum(cell.residual - cell.weighed * category_3.effect) AS DOUBLE PRECISION) / CAST(sum(cell.weighed) + CAST(4.0 AS DOUBLE PRECISION) AS DOUBLE PRECISION)) AS effect
FROM cell JOIN category_3 ON category_3.domain_id = cell.domain_id
    AND category_3.category = cell.category GROUP BY cell.agent_id),
category_4 AS
(SELECT cell.domain_id AS domain_id, cell.category AS category, CASE
    WHEN (cell.category = CAST('' AS VARCHAR(4))) THEN 0 ELSE (CAST(sum(cell.residual - cell.weighed * agent_3.effect) AS DOUBLE PRECISION) / CAST(sum(cell.weighed) + CAST(1.0 AS DOUBLE PRECISION) AS DOUBLE PRECISION)) END AS effect
FROM cell JOIN agent_3 ON agent_3.agent_id = cell.agent_id GROUP BY cell.domain_id, cell.category),
agent_4 AS
(SELECT cell.agent_id AS agent_id,
    (CAST(sum(cell.residual - cell.weighed * category_4.effect) AS DOUBLE PRECISION) / CAST(sum(cell.weighed) + CAST(4.0 AS DOUBLE PRECISION) AS DOUBLE PRECISION)) AS effect
FROM cell JOIN category_4 ON category_4.domain_id = cell.domain_id
    AND category_4.category = cell.category GROUP BY cell.agent_id)
 SELECT scored.domain_id, scored.agent_id, scored.name, scored.executions, scored.successes, scored.failures,
    scored.success_rate, scored.last_day, scored.days_since, scored.decay, scored.score, scored.evidence,
    scored.evidence_executions, scored.domain_rate, scored.revision, scored.revision_executions,
    scored.revision_successes, scored.counted, scored.counted_good,
    CAST((SELECT max(refresh_terms.as_of) AS max_1
FROM refresh_terms) AS TIMESTAMP WITHOUT TIME ZONE) AS anon_1
FROM (SELECT agents.domain_id AS domain_id, agents.agent_id AS agent_id, agents.name AS name,
    agents.executions AS executions, agents.successes AS successes,
    agents.executions - agents.successes AS failures,
    (CAST(agents.successes AS DOUBLE PRECISION) / CAST(agents.executions AS DOUBLE PRECISION)) AS success_rate,
    agents.last_day AS last_day, CASE WHEN (agents.last_day IS NOT NULL) THEN greatest(0, DATEDIFF(day,
    agents.last_day, (SELECT max(refresh_terms.as_of) AS max_1
FROM refresh_terms))) END AS days_since, CASE
    WHEN (agents.decay_day IS NULL) THEN CAST(1.0 AS DOUBLE PRECISION) ELSE exp(-least(CAST(0.1 AS DOUBLE PRECISION) * greatest(0,
    DATEDIFF(day, agents.decay_day, agents.own_day)), CAST(700.0 AS DOUBLE PRECISION))) END AS decay,
    CAST(agents.counted AS DOUBLE PRECISION) * CASE
    WHEN (agents.decay_day IS NULL) THEN CAST(1.0 AS DOUBLE PRECISION) ELSE exp(-least(CAST(0.1 AS DOUBLE PRECISION) * greatest(0,
    DATEDIFF(day, agents.decay_day, agents.own_day)),
    CAST(700.0 AS DOUBLE PRECISION))) END * power((CAST(agents.counted_good AS DOUBLE PRECISION) / CAST(agents.counted AS DOUBLE PRECISION)),
    2) AS score, least(greatest(agents.domain_rate + agent_4.effect, 0), 1) AS evidence,
    agents.weighed AS evidence_executions, agents.domain_rate AS domain_rate, agents.revision AS revision,
    agents.revision_executions AS revision_executions, agents.revision_successes AS revision_successes,
    agents.counted AS counted, agents.counted_good AS counted_good
FROM (SELECT counted.domain_id AS domain_id, counted.agent_id AS agent_id, counted.name AS name,
    counted.own_day AS own_day, counted.domain_rate AS domain_rate, counted.revision AS revision,
    counted.revision_executions AS revision_executions, counted.revision_successes AS revision_successes,
    counted.executions AS executions, counted.successes AS successes, counted.last_day AS last_day,
    counted.counted AS counted, counted.counted_good AS counted_good, counted.weighed AS weighed,
    coalesce(counted.last_day, min(counted.last_day) OVER (PARTITION BY counted.domain_id)) AS decay_day
FROM (SELECT cell.domain_id AS domain_id, cell.agent_id AS agent_id, cell.name AS name,
    cell.own_day AS own_day, cell.domain_rate AS domain_rate, cell.revision AS revision,
    cell.revision_executions AS revision_executions, cell.revision_successes AS revision_successes,
    CAST(least(greatest(sum(CAST(cell.executions AS BIGINT)), -4000000000000000000),
    4000000000000000000) AS BIGINT) AS executions, CAST(least(greatest(sum(CAST(cell.successes AS BIGINT)),
    -4000000000000000000), 4000000000000000000) AS BIGINT) AS successes, max(cell.last_day) AS last_day,
    sum(cell.counted) AS counted, sum(cell.counted_good) AS counted_good, sum(cell.weighed) AS weighed
FROM cell GROUP BY cell.domain_id, cell.agent_id, cell.name, cell.own_day, cell.domain_rate, cell.revision,
    cell.revision_executions, cell.revision_successes) AS counted) AS agents
    JOIN agent_4 ON agent_4.agent_id = agents.agent_id) AS scored;

-- Empty tool_error_summary by DELETE, because TRUNCATE would commit.
DELETE FROM tool_error_summary;

-- Count errors per agent, and list the tools that failed.
INSERT INTO tool_error_summary (domainid, agentid, agentnm, total_errors, total_executions, error_rate,
    failed_tools) SELECT per_tool.domainid, per_tool.agentid, per_tool.name,
    CAST(least(greatest(sum(CAST(per_tool.errors AS BIGINT)), -4000000000000000000),
    4000000000000000000) AS BIGINT) AS least_1, CAST(least(greatest(sum(CAST(per_tool.calls AS BIGINT)),
    -4000000000000000000), 4000000000000000000) AS BIGINT) AS least_2,
    (CAST(CAST(least(greatest(sum(CAST(per_tool.errors AS BIGINT)), -4000000000000000000),
    4000000000000000000) AS BIGINT) AS DOUBLE PRECISION) / CAST(CAST(least(greatest(sum(CAST(per_tool.calls AS BIGINT)),
    -4000000000000000000), 4000000000000000000) AS BIGINT) AS DOUBLE PRECISION)) AS ratio_1, LISTAGG(CASE
    WHEN (per_tool.errors > 0 AND per_tool.place <= 100) THEN left(per_tool.tool, 100) ELSE NULL END,
    ', ') WITHIN GROUP (ORDER BY CASE WHEN (per_tool.errors > 0
    AND per_tool.place <= 100) THEN left(per_tool.tool, 100) ELSE NULL END) || CASE
    WHEN (CAST(least(greatest(sum(CAST(CASE WHEN (per_tool.errors > 0) THEN 1 ELSE 0 END AS BIGINT)),
    -4000000000000000000),
    4000000000000000000) AS BIGINT) - 100 > 0) THEN ', and ' || CAST(CAST(least(greatest(sum(CAST(CASE
    WHEN (per_tool.errors > 0) THEN 1 ELSE 0 END AS BIGINT)), -4000000000000000000),
    4000000000000000000) AS BIGINT) - 100 AS VARCHAR(20)) || ' more' ELSE '' END AS anon_1
FROM (SELECT sums.domainid AS domainid, sums.agentid AS agentid, sums.name AS name, sums.tool AS tool,
    sums.errors AS errors, sums.calls AS calls, row_number() OVER (PARTITION BY sums.domainid, sums.agentid,
    sums.name ORDER BY CASE WHEN (sums.errors > 0) THEN 0 ELSE 1 END, sums.tool) AS place
FROM (SELECT rows_.domainid AS domainid, rows_.agentid AS agentid, rows_.name AS name, rows_.tool AS tool,
    CAST(least(greatest(sum(CAST(rows_.errors AS BIGINT)), -4000000000000000000),
    4000000000000000000) AS BIGINT) AS errors, CAST(least(greatest(sum(CAST(rows_.calls AS BIGINT)),
    -4000000000000000000), 4000000000000000000) AS BIGINT) AS calls
FROM (SELECT agent.domainid AS domainid, agent.agentid AS agentid, coalesce(nullif(agent.agentnm, ''),
    agent.agentid) AS name, agent_tool.calls AS calls, agent_tool.errors AS errors, named.tool_name AS tool
FROM agent_tool JOIN agent ON agent.agentid = agent_tool.agentid JOIN (SELECT agent_tool.agentid AS agentid,
    agent_tool.toolid AS toolid, coalesce(nullif(max(tool.toolnm), ''), nullif(max(agent_tool.toolnm), ''),
    agent_tool.toolid) AS tool_name
FROM agent_tool LEFT OUTER JOIN tool ON tool.agentid = agent_tool.agentid
    AND tool.toolid = agent_tool.toolid GROUP BY agent_tool.agentid,
    agent_tool.toolid) AS named ON named.agentid = agent_tool.agentid AND named.toolid = agent_tool.toolid
WHERE agent.domainid IS NOT NULL) AS rows_ GROUP BY rows_.domainid, rows_.agentid, rows_.name,
    rows_.tool) AS sums) AS per_tool GROUP BY per_tool.domainid, per_tool.agentid, per_tool.name
HAVING CAST(least(greatest(sum(CAST(per_tool.errors AS BIGINT)), -4000000000000000000),
    4000000000000000000) AS BIGINT) > 0;

-- Empty work_change by DELETE, because TRUNCATE would commit.
DELETE FROM work_change;

-- Empty work_session by DELETE, because TRUNCATE would commit.
DELETE FROM work_session;

-- Empty work_execution by DELETE, because TRUNCATE would commit.
DELETE FROM work_execution;

-- Empty work_call by DELETE, because TRUNCATE would commit.
DELETE FROM work_call;

-- Empty work_daily by DELETE, because TRUNCATE would commit.
DELETE FROM work_daily;

-- Empty work_tool by DELETE, because TRUNCATE would commit.
DELETE FROM work_tool;

-- Empty work_user by DELETE, because TRUNCATE would commit.
DELETE FROM work_user;

-- Empty work_pattern by DELETE, because TRUNCATE would commit.
DELETE FROM work_pattern;

-- Empty refresh_watermark by DELETE, because TRUNCATE would commit.
DELETE FROM refresh_watermark;

-- Store how far this refresh has read.
INSERT INTO refresh_watermark (name, as_of, seen_until) SELECT CAST('refresh' AS VARCHAR(28)) AS name,
    (SELECT max(refresh_terms.as_of) AS max_1
FROM refresh_terms) AS as_of, max(greatest(landed._record_create_time,
    landed._record_delete_time)) AS seen_until
FROM dbagent.public."AgentTable" AS landed;

COMMIT;
