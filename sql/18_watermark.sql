-- The work tables emptied, and how far this refresh saw.

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

-- Empty refresh_watermark; DELETE, not TRUNCATE, which would commit.
DELETE FROM refresh_watermark;

-- How far this refresh saw.
INSERT INTO refresh_watermark (name, as_of, seen_until) SELECT CAST('refresh' AS VARCHAR(28)) AS name,
    (SELECT max(refresh_terms.as_of) AS max_1
FROM refresh_terms) AS as_of, max(greatest(landed._record_create_time,
    landed._record_delete_time)) AS seen_until
FROM dbagent.public."AgentTable" AS landed;
