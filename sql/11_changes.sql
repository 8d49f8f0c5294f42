-- Find the changes since the watermark, and the sessions they affect.

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

-- Find the newest version of each item that changed since the watermark.
INSERT INTO work_change ("PK", "SK", "value", kind, present, loaded_at) SELECT ranked."PK", ranked."SK",
    ranked."value", ranked.kind, CASE WHEN (ranked.active OR CASE
    WHEN (CAST(ranked."value"."ExpiresAt"."N" AS VARCHAR(65535)) ~ '^-?[0-9]{1,18}([.][0-9]{1,38})?$') THEN CAST(CAST(ranked."value"."ExpiresAt"."N" AS VARCHAR(65535)) AS DOUBLE PRECISION) ELSE NULL END <= EXTRACT(epoch FROM ranked.gone)
    AND NOT coalesce(coalesce(CASE
    WHEN (CAST(ranked."value"."Version"."N" AS VARCHAR(65535)) ~ '^-?[0-9]{1,18}$') THEN CAST(CAST(ranked."value"."Version"."N" AS VARCHAR(65535)) AS BIGINT) ELSE NULL END,
    CAST(floor(CAST(EXTRACT(epoch FROM ranked.loaded_at) AS DOUBLE PRECISION) * 1000) AS BIGINT) * 65536,
    0) <= marks.before, false)) THEN 1 ELSE 0 END AS present, ranked.loaded_at
FROM (SELECT recent."PK" AS "PK", recent."SK" AS "SK", recent."value" AS "value", recent.kind AS kind,
    recent.loaded_at AS loaded_at, recent.active AS active, recent.gone AS gone,
    row_number() OVER (PARTITION BY recent."PK", recent."SK" ORDER BY CASE
    WHEN recent.active THEN 0 ELSE 1 END, recent.loaded_at DESC, coalesce(recent.gone,
    recent.loaded_at) DESC) AS place
FROM (SELECT landed."PK" AS "PK", landed."SK" AS "SK", landed."value" AS "value", CASE
    WHEN (CAST(landed."value"."EntityType"."S" AS VARCHAR(65535)) ~ '^[ -~]*$') THEN left(CAST(landed."value"."EntityType"."S" AS VARCHAR(65535)),
    64) ELSE NULL END AS kind, landed._record_create_time AS loaded_at, landed._record_is_active AS active,
    landed._record_delete_time AS gone
FROM dbagent.public."AgentTable" AS landed
WHERE landed._record_create_time > coalesce(DATEADD(second, -3600,
    (SELECT max(refresh_watermark.seen_until) AS max_1
FROM refresh_watermark)), CAST(CAST('1900-01-01' AS DATE) AS TIMESTAMP WITHOUT TIME ZONE))
    AND NOT (EXISTS (SELECT *
FROM erased_user
WHERE erased_user.userkey = md5(split_part(landed."PK", '#', 1)) AND coalesce(CASE
    WHEN (CAST(landed."value"."Version"."N" AS VARCHAR(65535)) ~ '^-?[0-9]{1,18}$') THEN CAST(CAST(landed."value"."Version"."N" AS VARCHAR(65535)) AS BIGINT) ELSE NULL END,
    CAST(floor(CAST(EXTRACT(epoch FROM landed._record_create_time) AS DOUBLE PRECISION) * 1000) AS BIGINT) * 65536,
    0) < erased_user.erased_before)) UNION ALL SELECT landed."PK" AS "PK", landed."SK" AS "SK",
    landed."value" AS "value", CASE
    WHEN (CAST(landed."value"."EntityType"."S" AS VARCHAR(65535)) ~ '^[ -~]*$') THEN left(CAST(landed."value"."EntityType"."S" AS VARCHAR(65535)),
    64) ELSE NULL END AS kind, landed._record_create_time AS loaded_at, landed._record_is_active AS active,
    landed._record_delete_time AS gone
FROM dbagent.public."AgentTable" AS landed
WHERE landed._record_create_time <= coalesce(DATEADD(second, -3600,
    (SELECT max(refresh_watermark.seen_until) AS max_1
FROM refresh_watermark)), CAST(CAST('1900-01-01' AS DATE) AS TIMESTAMP WITHOUT TIME ZONE))
    AND landed._record_delete_time > coalesce(DATEADD(second, -3600,
    (SELECT max(refresh_watermark.seen_until) AS max_1
FROM refresh_watermark)), CAST(CAST('1900-01-01' AS DATE) AS TIMESTAMP WITHOUT TIME ZONE))
    AND NOT (EXISTS (SELECT *
FROM erased_user
WHERE erased_user.userkey = md5(split_part(landed."PK", '#', 1)) AND coalesce(CASE
    WHEN (CAST(landed."value"."Version"."N" AS VARCHAR(65535)) ~ '^-?[0-9]{1,18}$') THEN CAST(CAST(landed."value"."Version"."N" AS VARCHAR(65535)) AS BIGINT) ELSE NULL END,
    CAST(floor(CAST(EXTRACT(epoch FROM landed._record_create_time) AS DOUBLE PRECISION) * 1000) AS BIGINT) * 65536,
    0) < erased_user.erased_before)) UNION ALL SELECT landed."PK" AS "PK", landed."SK" AS "SK",
    landed."value" AS "value", CASE
    WHEN (CAST(landed."value"."EntityType"."S" AS VARCHAR(65535)) ~ '^[ -~]*$') THEN left(CAST(landed."value"."EntityType"."S" AS VARCHAR(65535)),
    64) ELSE NULL END AS kind, landed._record_create_time AS loaded_at, landed._record_is_active AS active,
    landed._record_delete_time AS gone
FROM dbagent.public."AgentTable" AS landed JOIN (SELECT gone."PK" AS "PK", gone."SK" AS "SK"
FROM dbagent.public."AgentTable" AS gone JOIN (SELECT late."PK" AS name, max(CASE
    WHEN (CAST(late."value"."Version"."N" AS VARCHAR(65535)) ~ '^-?[0-9]{1,18}$') THEN CAST(CAST(late."value"."Version"."N" AS VARCHAR(65535)) AS BIGINT) ELSE NULL END) AS before
FROM dbagent.public."AgentTable" AS late
WHERE late."PK" BETWEEN CAST('DELETED#' AS VARCHAR(32)) AND CAST('DELETED$' AS VARCHAR(32))
    AND late._record_create_time > coalesce(DATEADD(second, -3600,
    (SELECT max(refresh_watermark.seen_until) AS max_1
FROM refresh_watermark)),
    CAST(CAST('1900-01-01' AS DATE) AS TIMESTAMP WITHOUT TIME ZONE)) GROUP BY late."PK") AS lates ON lates.name = (CAST('DELETED#' AS VARCHAR(32)) || md5(gone."PK" || CAST('#' AS VARCHAR(4)) || gone."SK"))
WHERE NOT gone._record_is_active) AS asked_for ON asked_for."PK" = landed."PK"
    AND asked_for."SK" = landed."SK"
WHERE NOT (EXISTS (SELECT *
FROM erased_user
WHERE erased_user.userkey = md5(split_part(landed."PK", '#', 1)) AND coalesce(CASE
    WHEN (CAST(landed."value"."Version"."N" AS VARCHAR(65535)) ~ '^-?[0-9]{1,18}$') THEN CAST(CAST(landed."value"."Version"."N" AS VARCHAR(65535)) AS BIGINT) ELSE NULL END,
    CAST(floor(CAST(EXTRACT(epoch FROM landed._record_create_time) AS DOUBLE PRECISION) * 1000) AS BIGINT) * 65536,
    0) < erased_user.erased_before))) AS recent) AS ranked LEFT OUTER JOIN (SELECT mark."PK" AS name,
    max(CASE
    WHEN (CAST(mark."value"."Version"."N" AS VARCHAR(65535)) ~ '^-?[0-9]{1,18}$') THEN CAST(CAST(mark."value"."Version"."N" AS VARCHAR(65535)) AS BIGINT) ELSE NULL END) AS before
FROM dbagent.public."AgentTable" AS mark
WHERE mark."PK" BETWEEN CAST('DELETED#' AS VARCHAR(32))
    AND CAST('DELETED$' AS VARCHAR(32)) GROUP BY mark."PK") AS marks ON marks.name = (CAST('DELETED#' AS VARCHAR(32)) || md5(ranked."PK" || CAST('#' AS VARCHAR(4)) || ranked."SK"))
WHERE ranked.place = 1;

-- Find the sessions that those items belong to, the affected sessions; everything about them is computed again.
INSERT INTO work_session (userid, sessionid) SELECT left(split_part(work_change."PK", '#', 1),
    132) AS left_1, left(split_part(work_change."PK", '#', 2), 132) AS left_2
FROM work_change
WHERE length(split_part(work_change."PK", '#', 1)) <= 132 AND length(split_part(work_change."PK", '#',
    2)) <= 132 AND work_change.kind IN (CAST('UserSessPrcToolMappHist' AS VARCHAR(92)),
    CAST('UserSessionProcess' AS VARCHAR(72)),
    CAST('Review' AS VARCHAR(24))) UNION SELECT left(work_change."PK", 132) AS left_3, left(work_change."SK",
    132) AS left_4
FROM work_change
WHERE length(work_change."PK") <= 132 AND length(work_change."SK") <= 132
    AND work_change.kind = CAST('UserSession' AS VARCHAR(44));
