-- List the recommended patterns of each user, best first.

SELECT user_process_patterns.pattern_key, user_process_patterns.userid AS user_id,
    user_process_patterns.category, user_process_patterns.agent_sequence AS agent_id,
    user_process_patterns.process_pattern, user_process_patterns.tool_sequence,
    user_process_patterns.execution_count AS executions, user_process_patterns.success_count AS successes,
    (CAST(user_process_patterns.success_count AS DOUBLE PRECISION) / CAST(user_process_patterns.execution_count AS DOUBLE PRECISION)) AS success_rate,
    CAST(user_process_patterns.execution_count AS DOUBLE PRECISION) * CASE
    WHEN (user_process_patterns.decay_date IS NULL) THEN CAST(1.0 AS DOUBLE PRECISION) ELSE exp(-least(CAST(0.05 AS DOUBLE PRECISION) * greatest(0,
    DATEDIFF(day, user_process_patterns.decay_date, least(newest.day,
    (SELECT max(refresh_terms.as_of) AS max_1
FROM refresh_terms)))),
    CAST(700.0 AS DOUBLE PRECISION))) END * power((CAST(user_process_patterns.success_count AS DOUBLE PRECISION) / CAST(user_process_patterns.execution_count AS DOUBLE PRECISION)),
    2) AS score, user_process_patterns.first_used_date AS first_used,
    user_process_patterns.last_used_date AS last_used, user_process_patterns.is_recommended AS recommended
FROM user_process_patterns LEFT OUTER JOIN (SELECT DISTINCT agent_daily.agentid AS agentid,
    max(nullif(agent_daily.execution_date,
    CAST('0001-01-01' AS DATE))) OVER (PARTITION BY coalesce(agent.domainid, '')) AS day
FROM agent_daily
    LEFT OUTER JOIN agent ON agent.agentid = agent_daily.agentid) AS newest ON newest.agentid = user_process_patterns.agent_sequence
WHERE user_process_patterns.is_recommended IS true ORDER BY user_process_patterns.userid,
    user_process_patterns.pattern_score DESC, user_process_patterns.pattern_key;
