-- The full build as an expert would write it by hand for DuckDB alone: the yardstick of `warehouse.py handwritten`.
-- It follows the same rules (newest versions, what TTL deleted stays, the last attempt counts, times and numbers that
-- are none become NULL) and makes the same tables in a database of its own, `hand`; it needs no work tables, and cuts no
-- long values, as DuckDB's texts have no width. The variables `today` and `half_life` are set before.

BEGIN;

CREATE TEMP MACRO part(key, n) AS split_part(key, '#', n);
CREATE TEMP MACRO number(t) AS CASE WHEN regexp_full_match(t, '-?[0-9]{1,18}([.][0-9]+)?') THEN t::DOUBLE END;
CREATE TEMP MACRO whole(t) AS CASE WHEN regexp_full_match(t, '-?[0-9]{1,18}') THEN t::BIGINT END;
CREATE TEMP MACRO stamp(t) AS regexp_full_match(t, '[1-9][0-9]{3}(0[1-9]|1[0-2])(0[1-9]|[12][0-9]|3[01])([01][0-9]|2[0-3])[0-5][0-9][0-5][0-9][0-9]{0,6}');
CREATE TEMP MACRO days(day, today) AS greatest(0, date_diff('day', day, today));

CREATE TEMP VIEW item AS
SELECT "PK", "SK", "value", "value"->>'$.EntityType.S' AS kind, _record_create_time AS loaded_at
FROM "AgentTable" WHERE _record_is_active
UNION ALL
SELECT "PK", "SK", "value", "value"->>'$.EntityType.S', _record_create_time
FROM (
    SELECT * FROM "AgentTable" AS gone ANTI JOIN (FROM "AgentTable" WHERE _record_is_active) AS living USING ("PK", "SK")
    QUALIFY row_number() OVER (PARTITION BY "PK", "SK" ORDER BY _record_create_time DESC, _record_delete_time DESC) = 1
)
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
    a[9] AS userrequest, loaded_at AS load_timestamp
FROM (
    SELECT *, json_extract_string("value", ['$.UserSessionNM.S', '$.SessionSummary.S', '$.SessionStartDT.S',
        '$.DtlFileLoc.S', '$.SessionEndDT.S', '$.SessionSuccYN.S', '$.ReviewedSuccYN.S', '$.Category.S',
        '$.UserRequest.S']) AS a
    FROM few WHERE kind = 'UserSession'
);

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
    whole(a[6]) AS callno, a[7] AS status, a[8] AS errortype, number(a[9]) AS durationms, whole(a[10]) AS inputtokens,
    whole(a[11]) AS outputtokens, loaded_at AS load_timestamp
FROM (
    SELECT "PK", "SK", loaded_at, json_extract_string("value", ['$.ToolNM.S', '$.ToolValues.S', '$.TransactDT.S',
        '$.SuccYN.S', '$.ResultMsg.S', '$.CallNo.N', '$.Status.S', '$.ErrorType.S', '$.DurationMs.N',
        '$.InputTokens.N', '$.OutputTokens.N']) AS a
    FROM item WHERE kind = 'UserSessPrcToolMappHist'
);

CREATE TEMP VIEW call AS
SELECT *, coalesce(nullif(status, '') = 'ok', succyn = 'Y', FALSE)::INTEGER AS ok, stamp(transactdt) AS timed
FROM hand.user_tool_mapping_hist WHERE coalesce(status, '') IN ('', 'ok', 'error');

CREATE TABLE hand.agent_execution AS
WITH use AS (
    SELECT userid, sessionid, agentid, processid, toolid, max(attempt * 2 + ok) % 2 AS ok,
        coalesce(max(nullif(toolnm, '')), toolid) AS label, min(callno) AS number,
        min(CASE WHEN timed THEN rpad(transactdt, 20, '0') END) AS clock,
        min(day) AS first_day, max(day) AS last_day, count(*) AS calls, sum(durationms) AS milliseconds
    FROM (SELECT *, CASE WHEN timed THEN try_strptime(transactdt[:8], '%Y%m%d')::DATE END AS day FROM call)
    GROUP BY userid, sessionid, agentid, processid, toolid
), sequence AS (
    SELECT userid, sessionid, agentid, min(ok) AS ok, sum(calls)::INTEGER AS calls, min(first_day) AS first_date,
        max(last_day) AS execution_date, sum(milliseconds) / 1000 AS seconds,
        list({p: processid[:80], t: label[:80]} ORDER BY number NULLS LAST, clock NULLS LAST, processid, toolid)[:200] AS steps
    FROM use GROUP BY ALL
), named AS (
    SELECT sequence.*, coalesce(category, '') AS category,
        coalesce(CASE WHEN reviewedsuccyn IN ('Y', 'N') THEN reviewedsuccyn
            WHEN sessionsuccyn IN ('Y', 'N') THEN sessionsuccyn END = 'Y', ok = 1)::INTEGER AS success,
        array_to_string(list_transform(steps, lambda s: s.p), '->') AS process_pattern,
        array_to_string(list_transform(steps, lambda s: s.t), '->') AS tool_sequence
    FROM sequence LEFT JOIN hand.usersession USING (userid, sessionid)
)
SELECT userid, sessionid, agentid, category, success, calls, first_date, execution_date, seconds, process_pattern,
    tool_sequence,
    md5(concat_ws('#', userid, agentid, md5(category), md5(process_pattern), md5(tool_sequence))) AS pattern_key
FROM named ORDER BY sessionid, userid;

CREATE TABLE hand.agent_daily AS
SELECT agentid, coalesce(execution_date, DATE '0001-01-01') AS execution_date, count(*) AS executions,
    sum(success)::BIGINT AS successes
FROM hand.agent_execution GROUP BY ALL;

CREATE TABLE hand.agent_tool AS
SELECT agentid, toolid, coalesce(toolnm, '') AS toolnm, count(*) AS calls, sum(1 - ok)::BIGINT AS errors,
    coalesce(sum(inputtokens), 0)::BIGINT AS inputtokens, coalesce(sum(outputtokens), 0)::BIGINT AS outputtokens
FROM call GROUP BY ALL;

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
    SELECT * EXCLUDE newest, execution_count * coalesce(exp(-0.05::DOUBLE * days(decay_date, newest)), 1)
        * pow(success_count / execution_count, 2) AS pattern_score
    FROM dated
), best AS (
    SELECT userid, category, quantile_cont(pattern_score, 0.8) AS threshold FROM scored GROUP BY ALL
)
SELECT scored.*, success_count > 0 AND pattern_score >= threshold * 0.999999999::DOUBLE AS is_recommended
FROM scored JOIN best USING (userid, category);

CREATE TABLE hand.agent_score_summary AS
WITH daily AS (
    SELECT domainid, agentid, coalesce(agentnm, agentid) AS agentnm, executions, successes,
        nullif(execution_date, DATE '0001-01-01') AS day,
        least(max(day) OVER (PARTITION BY domainid), getvariable('today')) AS newest,
        coalesce(pow(0.5::DOUBLE, days(coalesce(day, min(day) OVER (PARTITION BY domainid)), newest)
            / getvariable('half_life')), 1) AS weight
    FROM hand.agent_daily JOIN hand.agent USING (agentid) WHERE domainid IS NOT NULL
), summed AS (
    SELECT domainid, agentid, agentnm, newest, sum(executions)::BIGINT AS total_executions,
        sum(successes)::BIGINT AS success_count, max(day) AS last_execution_date, sum(executions * weight) AS weighed,
        sum(successes * weight) AS good
    FROM daily GROUP BY ALL
), dated AS (
    SELECT *, (sum(good) OVER field + 1) / (sum(weighed) OVER field + 2) AS prior, weighed + 4 AS n,
        (good + 4 * prior) / n AS evidence_score, sqrt(evidence_score * (1 - evidence_score) / (n + 1)) AS sigma,
        coalesce(last_execution_date, min(last_execution_date) OVER field) AS decay_date,
        success_count / total_executions AS success_rate,
        coalesce(exp(-0.1::DOUBLE * days(decay_date, newest)), 1) AS time_decay_factor
    FROM summed WINDOW field AS (PARTITION BY domainid)
)
SELECT domainid, agentid, agentnm, total_executions, success_count, total_executions - success_count AS failure_count,
    success_rate, last_execution_date,
    CASE WHEN last_execution_date IS NOT NULL THEN days(last_execution_date, getvariable('today'))::INTEGER END
        AS days_since_last_exec,
    time_decay_factor, total_executions * time_decay_factor * pow(success_rate, 2) AS calculated_score,
    evidence_score, greatest(0, evidence_score - 1.6448536269514722::DOUBLE * sigma) AS evidence_low,
    least(1, evidence_score + 1.6448536269514722::DOUBLE * sigma) AS evidence_high, prior AS domain_rate,
    getvariable('today')::TIMESTAMP AS updated_at
FROM dated;

CREATE TABLE hand.tool_error_summary AS
WITH named AS (
    SELECT a.domainid, a.agentid, coalesce(a.agentnm, a.agentid) AS agentnm,
        coalesce(nullif(r.toolnm, ''), nullif(t.toolnm, ''), r.toolid) AS tool, sum(errors) AS errors, sum(calls) AS calls
    FROM hand.agent_tool r JOIN hand.agent a USING (agentid)
        LEFT JOIN hand.tool t ON t.agentid = r.agentid AND t.toolid = r.toolid
    WHERE a.domainid IS NOT NULL GROUP BY ALL
)
SELECT domainid, agentid, agentnm, sum(errors)::BIGINT AS total_errors, sum(calls)::BIGINT AS total_executions,
    total_errors / total_executions AS error_rate,
    string_agg(tool[:100], ', ' ORDER BY tool[:100]) FILTER (errors > 0) AS failed_tools
FROM named GROUP BY domainid, agentid, agentnm HAVING total_errors > 0;

CREATE TABLE hand.refresh_watermark AS
SELECT 'refresh' AS name, max(greatest(_record_create_time, _record_delete_time)) AS seen_until,
    getvariable('today') AS as_of
FROM "AgentTable";

COMMIT;
