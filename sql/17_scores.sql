-- Compute every agent's score and evidence, and its tool errors.

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
