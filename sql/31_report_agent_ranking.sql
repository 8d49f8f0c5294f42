-- Agents by score, in each domain, as of the day of the terms.

SELECT s.domain_id, s.agent_id, s.name, s.executions, s.successes, s.failures, s.success_rate, s.last_day,
    s.days_since, s.decay, s.score, s.evidence, s.evidence_low, s.evidence_high,
    rank() OVER (PARTITION BY s.domain_id ORDER BY s.weight DESC) AS score_rank
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
    rows_.name) AS sums) AS agents) AS s ORDER BY s.domain_id, score_rank, s.agent_id;
