-- Empty the work tables, and store how far this refresh has read.

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
