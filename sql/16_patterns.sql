-- Compute the patterns of the affected users, and which of them are recommended.

-- Find users whose patterns changed, or had a day in the future.
INSERT INTO work_user (userid) SELECT work_execution.userid
FROM work_execution UNION SELECT user_process_patterns.userid
FROM user_process_patterns
WHERE user_process_patterns.last_used_date > least(coalesce((SELECT max(refresh_watermark.as_of) AS max_1
FROM refresh_watermark), (SELECT max(refresh_terms.as_of) AS max_2
FROM refresh_terms)), (SELECT max(refresh_terms.as_of) AS max_2
FROM refresh_terms));

-- Find the patterns of those users, and compute their scores.
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
FROM agent_execution
WHERE agent_execution.pattern_key IN (SELECT work_execution.pattern_key
FROM work_execution) GROUP BY agent_execution.pattern_key
    UNION ALL SELECT user_process_patterns.userid AS user_id, user_process_patterns.category AS category,
    user_process_patterns.agent_sequence AS agent_id,
    user_process_patterns.process_pattern AS process_pattern,
    user_process_patterns.tool_sequence AS tool_sequence, user_process_patterns.pattern_key AS pattern_key,
    user_process_patterns.execution_count AS executions, user_process_patterns.success_count AS successes,
    user_process_patterns.avg_execution_time AS seconds, user_process_patterns.first_used_date AS first_day,
    user_process_patterns.last_used_date AS last_day
FROM user_process_patterns
WHERE user_process_patterns.userid IN (SELECT work_user.userid
FROM work_user) AND (user_process_patterns.pattern_key NOT IN (SELECT work_execution.pattern_key
FROM work_execution))) AS p) AS q;

-- Delete the patterns of those users.
DELETE FROM user_process_patterns USING work_user WHERE user_process_patterns.userid = work_user.userid;

-- Delete patterns without a key, which the sample's own statements made.
DELETE FROM user_process_patterns WHERE user_process_patterns.pattern_key = '';

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
