-- What changed since the watermark, and the sessions it touches.

-- Empty work_change; DELETE, not TRUNCATE, which would commit.
DELETE FROM work_change;

-- Empty work_session; DELETE, not TRUNCATE, which would commit.
DELETE FROM work_session;

-- Empty work_execution; DELETE, not TRUNCATE, which would commit.
DELETE FROM work_execution;

-- Empty work_call; DELETE, not TRUNCATE, which would commit.
DELETE FROM work_call;

-- Empty work_daily; DELETE, not TRUNCATE, which would commit.
DELETE FROM work_daily;

-- Empty work_tool; DELETE, not TRUNCATE, which would commit.
DELETE FROM work_tool;

-- Empty work_user; DELETE, not TRUNCATE, which would commit.
DELETE FROM work_user;

-- Empty work_pattern; DELETE, not TRUNCATE, which would commit.
DELETE FROM work_pattern;

-- The newest version of each item that changed.
INSERT INTO work_change ("PK", "SK", "value", kind, present, loaded_at) SELECT ranked."PK", ranked."SK",
    ranked."value", ranked.kind, ranked.present, ranked.loaded_at
FROM (SELECT recent."PK" AS "PK", recent."SK" AS "SK", recent."value" AS "value", recent.kind AS kind,
    recent.present AS present, recent.loaded_at AS loaded_at, recent.active AS active, recent.gone AS gone,
    row_number() OVER (PARTITION BY recent."PK", recent."SK" ORDER BY CASE
    WHEN recent.active THEN 0 ELSE 1 END, recent.loaded_at DESC, coalesce(recent.gone,
    recent.loaded_at) DESC) AS place
FROM (SELECT landed."PK" AS "PK", landed."SK" AS "SK", landed."value" AS "value",
    CAST(landed."value"."EntityType"."S" AS VARCHAR(65535)) AS kind, CASE WHEN (landed._record_is_active
    OR CASE
    WHEN (CAST(landed."value"."ExpiresAt"."N" AS VARCHAR(65535)) ~ '^-?[0-9]{1,18}([.][0-9]+)?$') THEN CAST(CAST(landed."value"."ExpiresAt"."N" AS VARCHAR(65535)) AS DOUBLE PRECISION) ELSE NULL END IS NOT NULL
    AND CASE
    WHEN (CAST(landed."value"."ExpiresAt"."N" AS VARCHAR(65535)) ~ '^-?[0-9]{1,18}([.][0-9]+)?$') THEN CAST(CAST(landed."value"."ExpiresAt"."N" AS VARCHAR(65535)) AS DOUBLE PRECISION) ELSE NULL END <= EXTRACT(epoch FROM landed._record_delete_time)) THEN 1 ELSE 0 END AS present,
    landed._record_create_time AS loaded_at, landed._record_is_active AS active,
    landed._record_delete_time AS gone
FROM dbagent.public."AgentTable" AS landed
WHERE landed._record_create_time > coalesce(DATEADD(second, -3600,
    (SELECT max(refresh_watermark.seen_until) AS max_1
FROM refresh_watermark)), CAST(CAST('1900-01-01' AS DATE) AS TIMESTAMP WITHOUT TIME ZONE))
    UNION ALL SELECT landed."PK" AS "PK", landed."SK" AS "SK", landed."value" AS "value",
    CAST(landed."value"."EntityType"."S" AS VARCHAR(65535)) AS kind, CASE WHEN (landed._record_is_active
    OR CASE
    WHEN (CAST(landed."value"."ExpiresAt"."N" AS VARCHAR(65535)) ~ '^-?[0-9]{1,18}([.][0-9]+)?$') THEN CAST(CAST(landed."value"."ExpiresAt"."N" AS VARCHAR(65535)) AS DOUBLE PRECISION) ELSE NULL END IS NOT NULL
    AND CASE
    WHEN (CAST(landed."value"."ExpiresAt"."N" AS VARCHAR(65535)) ~ '^-?[0-9]{1,18}([.][0-9]+)?$') THEN CAST(CAST(landed."value"."ExpiresAt"."N" AS VARCHAR(65535)) AS DOUBLE PRECISION) ELSE NULL END <= EXTRACT(epoch FROM landed._record_delete_time)) THEN 1 ELSE 0 END AS present,
    landed._record_create_time AS loaded_at, landed._record_is_active AS active,
    landed._record_delete_time AS gone
FROM dbagent.public."AgentTable" AS landed
WHERE landed._record_create_time <= coalesce(DATEADD(second, -3600,
    (SELECT max(refresh_watermark.seen_until) AS max_1
FROM refresh_watermark)), CAST(CAST('1900-01-01' AS DATE) AS TIMESTAMP WITHOUT TIME ZONE))
    AND landed._record_delete_time > coalesce(DATEADD(second, -3600,
    (SELECT max(refresh_watermark.seen_until) AS max_1
FROM refresh_watermark)),
    CAST(CAST('1900-01-01' AS DATE) AS TIMESTAMP WITHOUT TIME ZONE))) AS recent) AS ranked
WHERE ranked.place = 1;

-- The sessions those items belong to: everything about them is computed again.
INSERT INTO work_session (userid, sessionid) SELECT split_part(work_change."PK", '#', 1) AS split_part_1,
    split_part(work_change."PK", '#', 2) AS split_part_2
FROM work_change
WHERE work_change.kind = CAST('UserSessPrcToolMappHist' AS VARCHAR(92)) UNION SELECT work_change."PK",
    work_change."SK"
FROM work_change
WHERE work_change.kind = CAST('UserSession' AS VARCHAR(44));
