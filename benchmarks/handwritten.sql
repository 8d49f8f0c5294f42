-- The full build as an expert would write it by hand for DuckDB alone: the yardstick of `warehouse.py handwritten`.
-- It follows the same rules (newest versions, what TTL deleted stays, the last attempt counts, times and numbers that
-- are none become NULL) and makes the same tables in a database of its own, `hand`; it needs no work tables, and cuts no
-- long values, as DuckDB's texts have no width. It derives no categories, which no SQL does, and knows no erased users.
-- The variables `today`, `half_life` and `revision_prior` are set before.

BEGIN;

CREATE TEMP MACRO part(key, n) AS split_part(key, '#', n);
CREATE TEMP MACRO number(t) AS CASE WHEN regexp_full_match(t, '-?[0-9]{1,18}([.][0-9]+)?') THEN t::DOUBLE END;
CREATE TEMP MACRO whole(t) AS CASE WHEN regexp_full_match(t, '-?[0-9]{1,18}') THEN t::BIGINT END;
CREATE TEMP MACRO tally(t) AS CASE WHEN regexp_full_match(t, '[0-9]{1,13}') THEN t::BIGINT END;
CREATE TEMP MACRO stamp(t) AS regexp_full_match(t, '[1-9][0-9]{3}(0[1-9]|1[0-2])(0[1-9]|[12][0-9]|3[01])([01][0-9]|2[0-3])[0-5][0-9][0-5][0-9][0-9]{0,6}');
CREATE TEMP MACRO days(day, today) AS greatest(0, date_diff('day', day, today));
CREATE TEMP MACRO fading(day, today, rate) AS coalesce(exp(-least(rate * days(day, today), 700)), 1);
CREATE TEMP MACRO halved(times) AS pow(0.5::DOUBLE, least(times, 60));
CREATE TEMP MACRO undated() AS DATE '0001-01-01';

CREATE TEMP VIEW item AS
SELECT "PK", "SK", "value", "value"->>'$.EntityType.S' AS kind, _record_create_time AS loaded_at
FROM "AgentTable" WHERE _record_is_active
UNION ALL
SELECT "PK", "SK", "value", "value"->>'$.EntityType.S', _record_create_time
FROM (
    SELECT * FROM "AgentTable" ANTI JOIN (FROM "AgentTable" WHERE _record_is_active) AS living USING ("PK", "SK")
    QUALIFY row_number() OVER (PARTITION BY "PK", "SK" ORDER BY _record_create_time DESC, _record_delete_time DESC) = 1
) AS gone
WHERE number("value"->>'$.ExpiresAt.N') <= epoch(_record_delete_time) AND NOT EXISTS (
    FROM "AgentTable" AS mark WHERE mark."PK" = 'DELETED#' || md5(gone."PK" || '#' || gone."SK")
        AND coalesce(whole(gone."value"->>'$.Version.N'), epoch(gone._record_create_time)::BIGINT * 65536000)
            <= whole(mark."value"->>'$.Version.N')
);

CREATE TEMP TABLE few AS FROM item WHERE kind <> 'UserSessPrcToolMappHist';

CREATE TABLE hand.domain AS
SELECT "PK" AS domainid, "value"->>'$.DomainNM.S' AS domainnm, "value"->>'$.Description.S' AS description,
    loaded_at AS load_timestamp
FROM few WHERE kind = 'Domain';

CREATE TABLE hand.agent AS
SELECT "value"->>'$.GSI1_PK.S' AS domainid, "PK" AS agentid, "value"->>'$.AgentNM.S' AS agentnm,
    number(coalesce("value"->>'$.Score.N', "value"->>'$.Score.S')) AS score,
    "value"->>'$.Description.S' AS description, loaded_at AS load_timestamp
FROM few WHERE kind = 'Agent';

CREATE TABLE hand.tool AS
SELECT "value"->>'$.GSI1_PK.S' AS domainid, "PK" AS agentid, "SK" AS toolid, "value"->>'$.ToolNM.S' AS toolnm,
    "value"->>'$.ToolSpec.S' AS toolspec, "value"->>'$.Description.S' AS description, loaded_at AS load_timestamp
FROM few WHERE kind = 'Tool';

CREATE TABLE hand.userinfo AS
SELECT "PK" AS userid, "value"->>'$.UserNM.S' AS usernm, "value"->>'$.UserProfile.S' AS userprofile,
    "value"->>'$.LastLoginDT.S' AS lastlogindt, "value"->>'$.CreationDT.S' AS creationdt, loaded_at AS load_timestamp
FROM few WHERE kind = 'UserInfo';

CREATE TABLE hand.usersession AS
SELECT "PK" AS userid, "SK" AS sessionid, a[1] AS sessionnm, a[2] AS sessionsummary, a[3] AS sessionstartdt,
    a[4] AS dtlfileloc, a[5] AS sessionenddt, a[6] AS sessionsuccyn, a[7] AS reviewedsuccyn, a[8] AS category,
    a[9] AS userrequest, coalesce(number(a[10]), 0) AS expiresat, CAST(number(a[11]) AS INTEGER) AS ttldays,
    loaded_at AS load_timestamp
FROM (
    SELECT *, json_extract_string("value", ['$.UserSessionNM.S', '$.SessionSummary.S', '$.SessionStartDT.S',
        '$.DtlFileLoc.S', '$.SessionEndDT.S', '$.SessionSuccYN.S', '$.ReviewedSuccYN.S', '$.Category.S',
        '$.UserRequest.S', '$.ExpiresAt.N', '$.TTLDays.N']) AS a
    FROM few WHERE kind = 'UserSession'
);

CREATE TABLE hand.session_outcome AS
SELECT part("PK", 1) AS userid, part("PK", 2) AS sessionid, part("SK", 2) AS outcomeid,
    "value"->>'$.OutcomeSource.S' AS source, "value"->>'$.AgentID.S' AS agentid, "value"->>'$.OutcomeYN.S' AS succyn,
    number("value"->>'$.OutcomeScore.N') AS score, "value"->>'$.DecidedBy.S' AS reportedby,
    "value"->>'$.DecisionReason.S' AS reason, "value"->>'$.DecidedDT.S' AS reporteddt, loaded_at AS load_timestamp
FROM few WHERE kind = 'Review' AND "value"->>'$.OutcomeSource.S' IS NOT NULL;

CREATE TABLE hand.suggestion AS
SELECT part("PK", 1) AS userid, "SK" AS suggestionkey, "value"->>'$.UserSessionID.S' AS sessionid,
    "value"->>'$.DomainID.S' AS domainid, "value"->>'$.WithheldYN.S' AS withheldyn,
    number("value"->>'$.HoldoutShare.N') AS holdoutshare, "value"->>'$.PlansSinceDT.S' AS planssincedt,
    loaded_at AS load_timestamp
FROM few WHERE kind = 'Suggestion';

CREATE TABLE hand.usersessionprocess AS
SELECT part("PK", 1) AS userid, part("PK", 2) AS sessionid, "SK" AS processid, "value"->>'$.UserPrompt.S' AS userprompt,
    "value"->>'$.ProcNM.S' AS procnm, coalesce("value"->>'$.ProcessDesc.S', "value"->>'$.ProcDesc.S') AS procdesc,
    "value"->>'$.ProcDT.S' AS procdt, loaded_at AS load_timestamp
FROM few WHERE kind = 'UserSessionProcess';

-- each item is parsed once for all of its attributes
CREATE TABLE hand.user_tool_mapping_hist AS
SELECT part("PK", 1) AS userid, part("PK", 2) AS sessionid, part("SK", 1) AS processid, part("SK", 2) AS agentid,
    part("SK", 3) AS toolid, coalesce(TRY_CAST(ltrim(part("SK", 4), 'ABCDEFGHIJ') AS INTEGER), 1) AS attempt,
    a[1] AS toolnm, a[2] AS toolvalues, a[3] AS transactdt, a[4] AS succyn, a[5] AS resultmsg,
    whole(a[6]) AS callno, a[7] AS status, a[8] AS errortype, number(a[9]) AS durationms, tally(a[10]) AS inputtokens,
    tally(a[11]) AS outputtokens, tally(a[12]) AS cachedtokens, tally(a[13]) AS cachewritetokens,
    tally(a[14]) AS reasoningtokens, a[15] AS modelnm, tally(a[17]) AS requestinputtokens,
    a[16] AS agentver, loaded_at AS load_timestamp
FROM (
    SELECT "PK", "SK", loaded_at, json_extract_string("value", ['$.ToolNM.S', '$.ToolValues.S', '$.TransactDT.S',
        '$.SuccYN.S', '$.ResultMsg.S', '$.CallNo.N', '$.Status.S', '$.ErrorType.S', '$.DurationMs.N',
        '$.InputTokens.N', '$.OutputTokens.N', '$.CachedTokens.N', '$.CacheWriteTokens.N', '$.ReasoningTokens.N',
        '$.ModelNM.S', '$.AgentVer.S', '$.RequestInputTokens.N']) AS a
    FROM item WHERE kind = 'UserSessPrcToolMappHist'
);

-- a call that the cache answered is a step, and has no outcome
CREATE TEMP VIEW call AS
SELECT *, CASE coalesce(status, '') WHEN '' THEN coalesce(succyn = 'Y', FALSE)::INTEGER WHEN 'ok' THEN 1 WHEN 'error' THEN 0
    END AS ok, stamp(transactdt) AS timed
FROM hand.user_tool_mapping_hist WHERE coalesce(status, '') IN ('', 'ok', 'error', 'cache_hit');

-- the most trusted outcome from outside: by source, whether it is about one agent, its time, and a failure before a success
CREATE TEMP VIEW said AS
SELECT userid, sessionid, coalesce(agentid, '') AS about, max((list_position(['evaluator', 'event', 'person'], source)
    || (about <> '')::INTEGER::VARCHAR || CASE WHEN stamp(reporteddt) THEN rpad(reporteddt, 20, '0') ELSE repeat('0', 20) END
    || (succyn = 'N')::INTEGER::VARCHAR)) AS best
FROM hand.session_outcome WHERE source IN ('person', 'event', 'evaluator') AND succyn IN ('Y', 'N') GROUP BY ALL;

CREATE TABLE hand.agent_execution AS
WITH use AS (
    SELECT userid, sessionid, agentid, processid, toolid, max(attempt * 2 + ok) % 2 AS ok,
        coalesce(max(nullif(toolnm, '')), toolid) AS label, min(callno) AS number, min(clock) AS clock,
        max(clock) AS last_time, max(coalesce(clock, repeat('0', 20)) || nullif(agentver, '')) AS version,
        min(day) AS first_day, max(day) AS last_day, count(ok) AS calls, sum(durationms) AS milliseconds
    FROM (
        SELECT *, CASE WHEN timed THEN rpad(transactdt, 20, '0') END AS clock,
            CASE WHEN timed THEN try_strptime(transactdt[:8], '%Y%m%d')::DATE END AS day
        FROM call
    )
    GROUP BY userid, sessionid, agentid, processid, toolid
), sequence AS (
    SELECT userid, sessionid, agentid, min(ok) AS ok, sum(calls)::INTEGER AS calls, min(first_day) AS first_date,
        max(last_day) AS execution_date, max(last_time) AS last_time, coalesce(max(version)[21:], '') AS agentver,
        sum(milliseconds) / 1000 AS seconds,
        list({p: processid[:80], t: label[:80]} ORDER BY number NULLS LAST, clock NULLS LAST, processid, toolid)[:200] AS steps
    FROM use GROUP BY userid, sessionid, agentid HAVING min(ok) IS NOT NULL
), judged AS (
    SELECT sequence.*, CASE WHEN category[:1] = '~' THEN '' ELSE coalesce(category, '') END AS category, reviewedsuccyn,
        greatest(coalesce(whole_run.best, ''), coalesce(one_agent.best, ''))[-1:] AS failed, sessionsuccyn
    FROM sequence LEFT JOIN hand.usersession USING (userid, sessionid)
        LEFT JOIN said AS whole_run ON whole_run.userid = sequence.userid AND whole_run.sessionid = sequence.sessionid
            AND whole_run.about = ''
        LEFT JOIN said AS one_agent ON one_agent.userid = sequence.userid AND one_agent.sessionid = sequence.sessionid
            AND one_agent.about = sequence.agentid AND one_agent.about <> ''
), named AS (
    SELECT judged.*, CASE WHEN reviewedsuccyn IN ('Y', 'N') THEN reviewedsuccyn = 'Y' WHEN failed <> '' THEN failed = '0'
            WHEN sessionsuccyn IN ('Y', 'N') THEN sessionsuccyn = 'Y' ELSE ok = 1 END::INTEGER AS success,
        array_to_string(list_transform(steps, lambda s: s.p), '->') AS process_pattern,
        array_to_string(list_transform(steps, lambda s: s.t), '->') AS tool_sequence
    FROM judged
)
SELECT userid, sessionid, agentid, category, success, calls, first_date, execution_date, seconds, process_pattern,
    tool_sequence,
    md5(concat_ws('#', userid, agentid, md5(category), md5(process_pattern), md5(tool_sequence))) AS pattern_key,
    agentver, last_time
FROM named ORDER BY sessionid, userid;

CREATE TABLE hand.agent_daily AS
SELECT agentid, category, agentver, coalesce(execution_date, undated()) AS execution_date, count(*) AS executions,
    sum(success)::BIGINT AS successes
FROM hand.agent_execution GROUP BY ALL;

CREATE TABLE hand.agent_tool AS
SELECT agentid, toolid, coalesce(toolnm, '') AS toolnm, count(*) AS calls, sum(1 - ok)::BIGINT AS errors,
    coalesce(sum(inputtokens), 0)::BIGINT AS inputtokens, coalesce(sum(outputtokens), 0)::BIGINT AS outputtokens
FROM call WHERE ok IS NOT NULL GROUP BY ALL;

CREATE TABLE hand.user_process_patterns AS
WITH pattern AS (
    SELECT min(userid) AS userid, min(category) AS category, min(agentid) AS agent_sequence,
        min(process_pattern) AS process_pattern, min(tool_sequence) AS tool_sequence, pattern_key,
        count(*) AS execution_count, sum(success)::BIGINT AS success_count, avg(seconds) AS avg_execution_time,
        min(first_date) AS first_used_date, max(execution_date) AS last_used_date
    FROM hand.agent_execution GROUP BY pattern_key
), dated AS (
    SELECT *, coalesce(last_used_date, min(last_used_date) OVER mine) AS decay_date,
        least(max(last_used_date) OVER mine, getvariable('today')) AS newest
    FROM pattern WINDOW mine AS (PARTITION BY userid)
), scored AS (
    SELECT * EXCLUDE newest, execution_count * fading(decay_date, newest, 0.05::DOUBLE)
        * pow(success_count / execution_count, 2) AS pattern_score
    FROM dated
), best AS (
    SELECT userid, category, quantile_cont(pattern_score, 0.8) AS threshold FROM scored GROUP BY ALL
)
SELECT scored.*, success_count > 0 AND pattern_score >= threshold * 0.999999999::DOUBLE AS is_recommended
FROM scored JOIN best USING (userid, category);

-- the revision of an agent's newest execution, and what one of any other counts for
CREATE TEMP TABLE present AS
WITH newest AS (
    SELECT agentid, arg_max(agentver, {day: coalesce(execution_date, undated()), clock: coalesce(last_time, ''), v: agentver})
        AS agentver
    FROM hand.agent_execution WHERE agentver <> '' GROUP BY agentid
)
SELECT agentid, n.agentver, sum(executions) FILTER (d.agentver = n.agentver)::BIGINT AS own,
    sum(successes) FILTER (d.agentver = n.agentver)::BIGINT AS good, sum(executions) - own AS others,
    least(1, getvariable('revision_prior') / greatest(others, 1)) * halved(own / getvariable('revision_prior')) AS weight
FROM newest AS n JOIN hand.agent_daily AS d USING (agentid) GROUP BY ALL;

CREATE TABLE hand.agent_score_summary AS
WITH daily AS (
    SELECT domainid, agentid, coalesce(nullif(agentnm, ''), agentid) AS agentnm, category, executions, successes,
        CASE WHEN coalesce(present.agentver, daily.agentver) = daily.agentver THEN 1 ELSE present.weight END AS share,
        nullif(execution_date, undated()) AS day, min(day) OVER (PARTITION BY domainid) AS oldest,
        least(max(day) OVER (PARTITION BY domainid), getvariable('today')) AS newest,
        share * coalesce(halved(days(coalesce(day, oldest), newest) / getvariable('half_life')), 1) AS weight
    FROM hand.agent_daily AS daily JOIN hand.agent USING (agentid) LEFT JOIN present USING (agentid)
    WHERE domainid IS NOT NULL
), summed AS (
    SELECT domainid, agentid, agentnm, newest, category, sum(executions) AS executions, sum(successes) AS successes,
        max(day) AS last_day, sum(executions * share) AS counted, sum(successes * share) AS counted_good,
        sum(executions * weight) AS weighed, sum(successes * weight) AS good
    FROM daily GROUP BY ALL
), cell AS MATERIALIZED (
    SELECT *, (sum(good) OVER field + 1) / (sum(weighed) OVER field + 2) AS rate, good - weighed * rate AS residual
    FROM summed WINDOW field AS (PARTITION BY domainid)
), v0 AS (SELECT DISTINCT agentid, 0::DOUBLE AS v FROM cell)
-- by turns: how much a category's success rate differs, given its agents, and an agent's, given its categories
, u1 AS (SELECT domainid, category, CASE WHEN category <> '' THEN sum(residual - weighed * v) / (sum(weighed) + 1) ELSE 0 END
    AS u FROM cell JOIN v0 USING (agentid) GROUP BY domainid, category)
, v1 AS (SELECT agentid, sum(residual - weighed * u) / (sum(weighed) + 4) AS v
    FROM cell JOIN u1 USING (domainid, category) GROUP BY agentid)
, u2 AS (SELECT domainid, category, CASE WHEN category <> '' THEN sum(residual - weighed * v) / (sum(weighed) + 1) ELSE 0 END
    AS u FROM cell JOIN v1 USING (agentid) GROUP BY domainid, category)
, v2 AS (SELECT agentid, sum(residual - weighed * u) / (sum(weighed) + 4) AS v
    FROM cell JOIN u2 USING (domainid, category) GROUP BY agentid)
, u3 AS (SELECT domainid, category, CASE WHEN category <> '' THEN sum(residual - weighed * v) / (sum(weighed) + 1) ELSE 0 END
    AS u FROM cell JOIN v2 USING (agentid) GROUP BY domainid, category)
, v3 AS (SELECT agentid, sum(residual - weighed * u) / (sum(weighed) + 4) AS v
    FROM cell JOIN u3 USING (domainid, category) GROUP BY agentid)
, u4 AS (SELECT domainid, category, CASE WHEN category <> '' THEN sum(residual - weighed * v) / (sum(weighed) + 1) ELSE 0 END
    AS u FROM cell JOIN v3 USING (agentid) GROUP BY domainid, category)
, v4 AS (SELECT agentid, sum(residual - weighed * u) / (sum(weighed) + 4) AS v
    FROM cell JOIN u4 USING (domainid, category) GROUP BY agentid)
, agents AS (
    SELECT domainid, agentid, agentnm, newest, rate, sum(executions)::BIGINT AS total_executions,
        sum(successes)::BIGINT AS success_count, max(last_day) AS last_execution_date, sum(counted) AS counted_executions,
        sum(counted_good) AS counted_successes, sum(weighed) AS evidence_executions
    FROM cell GROUP BY ALL
), dated AS (
    SELECT *, fading(coalesce(last_execution_date, min(last_execution_date) OVER (PARTITION BY domainid)), newest,
        0.1::DOUBLE) AS time_decay_factor
    FROM agents
)
SELECT domainid, agentid, agentnm, total_executions, success_count, total_executions - success_count AS failure_count,
    success_count / total_executions AS success_rate, last_execution_date,
    CASE WHEN last_execution_date IS NOT NULL THEN days(last_execution_date, getvariable('today'))::INTEGER END
        AS days_since_last_exec,
    time_decay_factor,
    counted_executions * time_decay_factor * pow(counted_successes / counted_executions, 2) AS calculated_score,
    least(greatest(rate + v, 0), 1) AS evidence_score, evidence_executions, rate AS domain_rate,
    coalesce(present.agentver, '') AS agentver, coalesce(own, 0) AS revision_executions,
    coalesce(good, 0) AS revision_successes, counted_executions, counted_successes,
    getvariable('today')::TIMESTAMP AS updated_at
FROM dated JOIN v4 USING (agentid) LEFT JOIN present USING (agentid);

CREATE TABLE hand.tool_error_summary AS
WITH tool AS (
    SELECT r.agentid, coalesce(nullif(max(t.toolnm), ''), nullif(max(r.toolnm), ''), r.toolid) AS tool,
        sum(errors) AS errors, sum(calls) AS calls
    FROM hand.agent_tool r LEFT JOIN hand.tool t ON t.agentid = r.agentid AND t.toolid = r.toolid
    GROUP BY r.agentid, r.toolid
), named AS (
    SELECT a.domainid, a.agentid, coalesce(nullif(a.agentnm, ''), a.agentid) AS agentnm, tool, sum(errors) AS errors,
        sum(calls) AS calls
    FROM tool JOIN hand.agent a USING (agentid) WHERE a.domainid IS NOT NULL GROUP BY ALL
), listed AS (
    SELECT domainid, agentid, agentnm, sum(errors)::BIGINT AS total_errors, sum(calls)::BIGINT AS total_executions,
        list(tool ORDER BY tool) FILTER (errors > 0) AS failed
    FROM named GROUP BY ALL HAVING total_errors > 0
)
SELECT * EXCLUDE failed, total_errors / total_executions AS error_rate,
    array_to_string(list_sort(list_transform(failed[:100], lambda t: t[:100])), ', ')
        || CASE WHEN len(failed) > 100 THEN ', and ' || len(failed) - 100 || ' more' ELSE '' END AS failed_tools
FROM listed;

CREATE TABLE hand.refresh_watermark AS
SELECT 'refresh by agentmodel' AS name, max(greatest(_record_create_time, _record_delete_time)) AS seen_until,
    getvariable('today') AS as_of
FROM "AgentTable";

COMMIT;
