-- Recommended patterns of each user, best first.

SELECT user_process_patterns.pattern_key, user_process_patterns.userid, user_process_patterns.category,
    user_process_patterns.agent_sequence, user_process_patterns.process_pattern,
    user_process_patterns.tool_sequence, user_process_patterns.execution_count,
    user_process_patterns.success_count,
    (CAST(user_process_patterns.success_count AS DOUBLE PRECISION) / CAST(user_process_patterns.execution_count AS DOUBLE PRECISION)) AS success_rate,
    CAST(user_process_patterns.execution_count AS DOUBLE PRECISION) * CASE
    WHEN (user_process_patterns.decay_date IS NULL) THEN CAST(1.0 AS DOUBLE PRECISION) ELSE exp(CAST(-0.05 AS DOUBLE PRECISION) * greatest(0,
    DATEDIFF(day, user_process_patterns.decay_date, (SELECT max(refresh_terms.as_of) AS max_1
FROM refresh_terms)))) END * power((CAST(user_process_patterns.success_count AS DOUBLE PRECISION) / CAST(user_process_patterns.execution_count AS DOUBLE PRECISION)),
    2) AS score, user_process_patterns.first_used_date, user_process_patterns.last_used_date,
    user_process_patterns.is_recommended
FROM user_process_patterns
WHERE user_process_patterns.is_recommended IS true ORDER BY user_process_patterns.userid,
    user_process_patterns.pattern_score DESC, user_process_patterns.pattern_key;
