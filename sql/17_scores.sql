-- Every agent's score and evidence, and its tool errors.

-- Empty agent_score_summary; DELETE, not TRUNCATE, which would commit.
DELETE FROM agent_score_summary;

-- Every agent's score and evidence as of the day.
INSERT INTO agent_score_summary (domainid, agentid, agentnm, total_executions, success_count, failure_count,
    success_rate, last_execution_date, decay_date, days_since_last_exec, time_decay_factor, calculated_score,
    score_weight, evidence_score, evidence_low, evidence_high, updated_at) SELECT scored.domain_id,
    scored.agent_id, scored.name, scored.executions, scored.successes, scored.failures, scored.success_rate,
    scored.last_day, scored.decay_day, scored.days_since, scored.decay, scored.score, scored.weight,
    scored.evidence, scored.evidence_low, scored.evidence_high, CAST((SELECT max(refresh_terms.as_of) AS max_1
FROM refresh_terms) AS TIMESTAMP WITHOUT TIME ZONE) AS anon_1
FROM (SELECT agents.domain_id AS domain_id, agents.agent_id AS agent_id, agents.name AS name,
    agents.executions AS executions, agents.successes AS successes,
    agents.executions - agents.successes AS failures,
    (CAST(agents.successes AS DOUBLE PRECISION) / CAST(agents.executions AS DOUBLE PRECISION)) AS success_rate,
    agents.last_day AS last_day, agents.decay_day AS decay_day, CASE
    WHEN (agents.last_day IS NOT NULL) THEN greatest(0, DATEDIFF(day, agents.last_day,
    (SELECT max(refresh_terms.as_of) AS max_1
FROM refresh_terms))) END AS days_since, CASE
    WHEN (agents.decay_day IS NULL) THEN CAST(1.0 AS DOUBLE PRECISION) ELSE exp(CAST(-0.1 AS DOUBLE PRECISION) * greatest(0,
    DATEDIFF(day, agents.decay_day, (SELECT max(refresh_terms.as_of) AS max_1
FROM refresh_terms)))) END AS decay, CAST(agents.executions AS DOUBLE PRECISION) * CASE
    WHEN (agents.decay_day IS NULL) THEN CAST(1.0 AS DOUBLE PRECISION) ELSE exp(CAST(-0.1 AS DOUBLE PRECISION) * greatest(0,
    DATEDIFF(day, agents.decay_day, (SELECT max(refresh_terms.as_of) AS max_1
FROM refresh_terms)))) END * power((CAST(agents.successes AS DOUBLE PRECISION) / CAST(agents.executions AS DOUBLE PRECISION)),
    2) AS score, CAST(agents.executions AS DOUBLE PRECISION) * CASE
    WHEN (agents.decay_day IS NULL) THEN CAST(1.0 AS DOUBLE PRECISION) ELSE exp(CAST(-0.1 AS DOUBLE PRECISION) * greatest(0,
    DATEDIFF(day, agents.decay_day, least(agents.newest, (SELECT max(refresh_terms.as_of) AS max_1
FROM refresh_terms))))) END * power((CAST(agents.successes AS DOUBLE PRECISION) / CAST(agents.executions AS DOUBLE PRECISION)),
    2) AS weight,
    (CAST(agents.good + CAST(4.0 AS DOUBLE PRECISION) * agents.prior AS DOUBLE PRECISION) / CAST(agents.weighed + CAST(4.0 AS DOUBLE PRECISION) AS DOUBLE PRECISION)) AS evidence,
    greatest(CAST(0.0 AS DOUBLE PRECISION),
    (CAST(agents.good + CAST(4.0 AS DOUBLE PRECISION) * agents.prior AS DOUBLE PRECISION) / CAST(agents.weighed + CAST(4.0 AS DOUBLE PRECISION) AS DOUBLE PRECISION)) - CAST(1.6448536269514722 AS DOUBLE PRECISION) * sqrt((CAST((CAST(agents.good + CAST(4.0 AS DOUBLE PRECISION) * agents.prior AS DOUBLE PRECISION) / CAST(agents.weighed + CAST(4.0 AS DOUBLE PRECISION) AS DOUBLE PRECISION)) * (CAST(1.0 AS DOUBLE PRECISION) - (CAST(agents.good + CAST(4.0 AS DOUBLE PRECISION) * agents.prior AS DOUBLE PRECISION) / CAST(agents.weighed + CAST(4.0 AS DOUBLE PRECISION) AS DOUBLE PRECISION))) AS DOUBLE PRECISION) / CAST(agents.weighed + CAST(4.0 AS DOUBLE PRECISION) + CAST(1.0 AS DOUBLE PRECISION) AS DOUBLE PRECISION)))) AS evidence_low,
    least(CAST(1.0 AS DOUBLE PRECISION),
    (CAST(agents.good + CAST(4.0 AS DOUBLE PRECISION) * agents.prior AS DOUBLE PRECISION) / CAST(agents.weighed + CAST(4.0 AS DOUBLE PRECISION) AS DOUBLE PRECISION)) + CAST(1.6448536269514722 AS DOUBLE PRECISION) * sqrt((CAST((CAST(agents.good + CAST(4.0 AS DOUBLE PRECISION) * agents.prior AS DOUBLE PRECISION) / CAST(agents.weighed + CAST(4.0 AS DOUBLE PRECISION) AS DOUBLE PRECISION)) * (CAST(1.0 AS DOUBLE PRECISION) - (CAST(agents.good + CAST(4.0 AS DOUBLE PRECISION) * agents.prior AS DOUBLE PRECISION) / CAST(agents.weighed + CAST(4.0 AS DOUBLE PRECISION) AS DOUBLE PRECISION))) AS DOUBLE PRECISION) / CAST(agents.weighed + CAST(4.0 AS DOUBLE PRECISION) + CAST(1.0 AS DOUBLE PRECISION) AS DOUBLE PRECISION)))) AS evidence_high
FROM (SELECT sums.domain_id AS domain_id, sums.agent_id AS agent_id, sums.name AS name,
    sums.executions AS executions, sums.successes AS successes, sums.last_day AS last_day,
    sums.weighed AS weighed, sums.good AS good,
    (CAST(sum(sums.good) OVER (PARTITION BY sums.domain_id) + CAST(1.0 AS DOUBLE PRECISION) AS DOUBLE PRECISION) / CAST(sum(sums.weighed) OVER (PARTITION BY sums.domain_id) + CAST(2.0 AS DOUBLE PRECISION) AS DOUBLE PRECISION)) AS prior,
    coalesce(sums.last_day, min(sums.last_day) OVER (PARTITION BY sums.domain_id)) AS decay_day,
    max(sums.last_day) OVER (PARTITION BY sums.domain_id) AS newest
FROM (SELECT rows_.domain_id AS domain_id, rows_.agent_id AS agent_id, rows_.name AS name,
    CAST(sum(rows_.executions) AS BIGINT) AS executions, CAST(sum(rows_.successes) AS BIGINT) AS successes,
    max(rows_.day) AS last_day, sum(CAST(rows_.executions AS DOUBLE PRECISION) * CASE
    WHEN (rows_.weigh_day IS NULL) THEN CAST(1.0 AS DOUBLE PRECISION) ELSE power(CAST(0.5 AS DOUBLE PRECISION),
    (CAST(greatest(0, DATEDIFF(day, rows_.weigh_day, (SELECT max(refresh_terms.as_of) AS max_1
FROM refresh_terms))) AS DOUBLE PRECISION) / CAST((SELECT max(refresh_terms.half_life_days) AS max_2
FROM refresh_terms) AS DOUBLE PRECISION))) END) AS weighed,
    sum(CAST(rows_.successes AS DOUBLE PRECISION) * CASE
    WHEN (rows_.weigh_day IS NULL) THEN CAST(1.0 AS DOUBLE PRECISION) ELSE power(CAST(0.5 AS DOUBLE PRECISION),
    (CAST(greatest(0, DATEDIFF(day, rows_.weigh_day, (SELECT max(refresh_terms.as_of) AS max_1
FROM refresh_terms))) AS DOUBLE PRECISION) / CAST((SELECT max(refresh_terms.half_life_days) AS max_2
FROM refresh_terms) AS DOUBLE PRECISION))) END) AS good
FROM (SELECT agent.domainid AS domain_id, agent.agentid AS agent_id, coalesce(agent.agentnm,
    agent.agentid) AS name, agent_daily.executions AS executions, agent_daily.successes AS successes,
    nullif(agent_daily.execution_date, CAST('0001-01-01' AS DATE)) AS day,
    coalesce(nullif(agent_daily.execution_date, CAST('0001-01-01' AS DATE)),
    min(nullif(agent_daily.execution_date,
    CAST('0001-01-01' AS DATE))) OVER (PARTITION BY agent.domainid)) AS weigh_day
FROM agent_daily JOIN agent ON agent.agentid = agent_daily.agentid
WHERE agent.domainid IS NOT NULL) AS rows_ GROUP BY rows_.domain_id, rows_.agent_id,
    rows_.name) AS sums) AS agents) AS scored;

-- Empty tool_error_summary; DELETE, not TRUNCATE, which would commit.
DELETE FROM tool_error_summary;

-- Errors per agent, and which tools failed.
INSERT INTO tool_error_summary (domainid, agentid, agentnm, total_errors, total_executions, error_rate,
    failed_tools) SELECT per_tool.domainid, per_tool.agentid, per_tool.name,
    CAST(sum(per_tool.errors) AS BIGINT) AS sum_1, CAST(sum(per_tool.calls) AS BIGINT) AS sum_2,
    (CAST(sum(per_tool.errors) AS DOUBLE PRECISION) / CAST(sum(per_tool.calls) AS DOUBLE PRECISION)) AS ratio_1,
    LISTAGG(CASE WHEN (per_tool.errors > 0) THEN left(per_tool.tool, 100) ELSE NULL END,
    ', ') WITHIN GROUP (ORDER BY CASE WHEN (per_tool.errors > 0) THEN left(per_tool.tool,
    100) ELSE NULL END) AS list_agg_1
FROM (SELECT rows_.domainid AS domainid, rows_.agentid AS agentid, rows_.name AS name, rows_.tool AS tool,
    sum(rows_.errors) AS errors, sum(rows_.calls) AS calls
FROM (SELECT agent.domainid AS domainid, agent.agentid AS agentid, coalesce(agent.agentnm,
    agent.agentid) AS name, agent_tool.calls AS calls, agent_tool.errors AS errors,
    coalesce(nullif(agent_tool.toolnm, ''), nullif(tool.toolnm, ''), agent_tool.toolid) AS tool
FROM agent_tool JOIN agent ON agent.agentid = agent_tool.agentid
    LEFT OUTER JOIN tool ON tool.agentid = agent_tool.agentid AND tool.toolid = agent_tool.toolid
WHERE agent.domainid IS NOT NULL) AS rows_ GROUP BY rows_.domainid, rows_.agentid, rows_.name,
    rows_.tool) AS per_tool GROUP BY per_tool.domainid, per_tool.agentid, per_tool.name
HAVING sum(per_tool.errors) > 0;
