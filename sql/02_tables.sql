-- Create every table that is missing.

CREATE TABLE IF NOT EXISTS agent (
    domainid VARCHAR(528) ENCODE ZSTD,
    agentid VARCHAR(528) ENCODE ZSTD NOT NULL,
    agentnm VARCHAR(1020) ENCODE ZSTD,
    score DOUBLE PRECISION ENCODE RAW,
    description VARCHAR(16000) ENCODE ZSTD,
    load_timestamp TIMESTAMP WITHOUT TIME ZONE ENCODE AZ64,
    PRIMARY KEY (agentid)
) DISTSTYLE ALL;

CREATE TABLE IF NOT EXISTS agent_daily (
    agentid VARCHAR(528) ENCODE RAW NOT NULL,
    category VARCHAR(1020) ENCODE ZSTD NOT NULL,
    agentver VARCHAR(1020) ENCODE ZSTD NOT NULL,
    execution_date DATE ENCODE RAW NOT NULL,
    executions BIGINT ENCODE AZ64 NOT NULL,
    successes BIGINT ENCODE AZ64 NOT NULL,
    PRIMARY KEY (agentid, category, agentver, execution_date)
) DISTSTYLE ALL SORTKEY (agentid, execution_date);

CREATE TABLE IF NOT EXISTS agent_execution (
    userid VARCHAR(528) ENCODE ZSTD NOT NULL,
    sessionid VARCHAR(528) ENCODE RAW NOT NULL,
    agentid VARCHAR(528) ENCODE RAW NOT NULL,
    category VARCHAR(1020) ENCODE ZSTD NOT NULL,
    success INTEGER ENCODE AZ64 NOT NULL,
    calls INTEGER ENCODE AZ64 NOT NULL,
    first_date DATE ENCODE AZ64,
    execution_date DATE ENCODE AZ64,
    seconds DOUBLE PRECISION ENCODE RAW,
    process_pattern VARCHAR(65535) ENCODE ZSTD NOT NULL,
    tool_sequence VARCHAR(65535) ENCODE ZSTD NOT NULL,
    pattern_key VARCHAR(32) ENCODE ZSTD NOT NULL,
    agentver VARCHAR(1020) ENCODE ZSTD,
    last_time VARCHAR(20) ENCODE ZSTD,
    PRIMARY KEY (userid, sessionid, agentid)
) DISTKEY (userid) SORTKEY (sessionid, agentid);

CREATE TABLE IF NOT EXISTS agent_score_summary (
    domainid VARCHAR(528) ENCODE RAW NOT NULL,
    agentid VARCHAR(528) ENCODE RAW NOT NULL,
    agentnm VARCHAR(1020) ENCODE ZSTD,
    total_executions BIGINT ENCODE AZ64 NOT NULL,
    success_count BIGINT ENCODE AZ64 NOT NULL,
    failure_count BIGINT ENCODE AZ64 NOT NULL,
    success_rate DOUBLE PRECISION ENCODE RAW NOT NULL,
    last_execution_date DATE ENCODE AZ64,
    days_since_last_exec INTEGER ENCODE AZ64,
    time_decay_factor DOUBLE PRECISION ENCODE RAW NOT NULL,
    calculated_score DOUBLE PRECISION ENCODE RAW NOT NULL,
    evidence_score DOUBLE PRECISION ENCODE RAW NOT NULL,
    evidence_executions DOUBLE PRECISION ENCODE RAW NOT NULL,
    domain_rate DOUBLE PRECISION ENCODE RAW NOT NULL,
    agentver VARCHAR(1020) ENCODE ZSTD NOT NULL,
    revision_executions BIGINT ENCODE AZ64 NOT NULL,
    revision_successes BIGINT ENCODE AZ64 NOT NULL,
    counted_executions DOUBLE PRECISION ENCODE RAW NOT NULL,
    counted_successes DOUBLE PRECISION ENCODE RAW NOT NULL,
    updated_at TIMESTAMP WITHOUT TIME ZONE ENCODE AZ64 NOT NULL,
    PRIMARY KEY (domainid, agentid)
) DISTSTYLE ALL SORTKEY (domainid, agentid);

CREATE TABLE IF NOT EXISTS agent_tool (
    agentid VARCHAR(528) ENCODE RAW NOT NULL,
    toolid VARCHAR(528) ENCODE RAW NOT NULL,
    toolnm VARCHAR(1020) ENCODE ZSTD NOT NULL,
    calls BIGINT ENCODE AZ64 NOT NULL,
    errors BIGINT ENCODE AZ64 NOT NULL,
    inputtokens BIGINT ENCODE AZ64 NOT NULL,
    outputtokens BIGINT ENCODE AZ64 NOT NULL,
    PRIMARY KEY (agentid, toolid, toolnm)
) DISTSTYLE ALL SORTKEY (agentid, toolid);

CREATE TABLE IF NOT EXISTS derived_category (
    userid VARCHAR(528) ENCODE RAW NOT NULL,
    requestkey VARCHAR(32) ENCODE RAW NOT NULL,
    formkey VARCHAR(32) ENCODE ZSTD NOT NULL,
    domainid VARCHAR(528) ENCODE ZSTD NOT NULL,
    category VARCHAR(1020) ENCODE ZSTD NOT NULL,
    founder VARCHAR(16000) ENCODE ZSTD,
    number INTEGER ENCODE AZ64 NOT NULL,
    PRIMARY KEY (userid, requestkey)
) DISTKEY (userid) SORTKEY (userid, requestkey);

CREATE TABLE IF NOT EXISTS domain (
    domainid VARCHAR(528) ENCODE ZSTD NOT NULL,
    domainnm VARCHAR(1020) ENCODE ZSTD,
    description VARCHAR(16000) ENCODE ZSTD,
    load_timestamp TIMESTAMP WITHOUT TIME ZONE ENCODE AZ64,
    PRIMARY KEY (domainid)
) DISTSTYLE ALL;

CREATE TABLE IF NOT EXISTS erased_user (
    userkey VARCHAR(32) ENCODE ZSTD NOT NULL,
    erased_before BIGINT ENCODE AZ64 NOT NULL,
    PRIMARY KEY (userkey)
) DISTSTYLE ALL;

CREATE TABLE IF NOT EXISTS model_price (
    modelnm VARCHAR(1020) ENCODE ZSTD NOT NULL,
    validfrom DATE ENCODE AZ64 NOT NULL,
    validuntil DATE ENCODE AZ64 NOT NULL,
    inputprice DOUBLE PRECISION ENCODE RAW NOT NULL,
    outputprice DOUBLE PRECISION ENCODE RAW NOT NULL,
    cachereadprice DOUBLE PRECISION ENCODE RAW,
    cachewriteprice DOUBLE PRECISION ENCODE RAW,
    reasoningprice DOUBLE PRECISION ENCODE RAW,
    aboveinput BIGINT ENCODE AZ64 NOT NULL,
    mostinput BIGINT ENCODE AZ64,
    PRIMARY KEY (modelnm, validfrom, aboveinput)
) DISTSTYLE ALL;

CREATE TABLE IF NOT EXISTS refresh_watermark (
    name VARCHAR(32) ENCODE ZSTD NOT NULL,
    seen_until TIMESTAMP WITHOUT TIME ZONE ENCODE AZ64,
    as_of DATE ENCODE AZ64 NOT NULL,
    PRIMARY KEY (name)
) DISTSTYLE ALL;

CREATE TABLE IF NOT EXISTS session_outcome (
    userid VARCHAR(528) ENCODE ZSTD NOT NULL,
    sessionid VARCHAR(528) ENCODE RAW NOT NULL,
    outcomeid VARCHAR(528) ENCODE ZSTD NOT NULL,
    source VARCHAR(16) ENCODE ZSTD,
    agentid VARCHAR(528) ENCODE ZSTD,
    succyn VARCHAR(1) ENCODE ZSTD,
    score DOUBLE PRECISION ENCODE RAW,
    reportedby VARCHAR(1020) ENCODE ZSTD,
    reason VARCHAR(16000) ENCODE ZSTD,
    reporteddt VARCHAR(20) ENCODE ZSTD,
    load_timestamp TIMESTAMP WITHOUT TIME ZONE ENCODE AZ64,
    PRIMARY KEY (userid, sessionid, outcomeid)
) DISTKEY (userid) SORTKEY (sessionid);

CREATE TABLE IF NOT EXISTS suggestion (
    userid VARCHAR(528) ENCODE ZSTD NOT NULL,
    suggestionkey VARCHAR(528) ENCODE RAW NOT NULL,
    sessionid VARCHAR(528) ENCODE ZSTD,
    domainid VARCHAR(528) ENCODE ZSTD,
    withheldyn VARCHAR(1) ENCODE ZSTD,
    holdoutshare DOUBLE PRECISION ENCODE RAW,
    planssincedt VARCHAR(20) ENCODE ZSTD,
    load_timestamp TIMESTAMP WITHOUT TIME ZONE ENCODE AZ64,
    PRIMARY KEY (userid, suggestionkey)
) DISTKEY (userid) SORTKEY (suggestionkey);

CREATE TABLE IF NOT EXISTS tool (
    domainid VARCHAR(528) ENCODE ZSTD,
    agentid VARCHAR(528) ENCODE RAW NOT NULL,
    toolid VARCHAR(528) ENCODE ZSTD NOT NULL,
    toolnm VARCHAR(1020) ENCODE ZSTD,
    toolspec VARCHAR(65535) ENCODE ZSTD,
    description VARCHAR(16000) ENCODE ZSTD,
    load_timestamp TIMESTAMP WITHOUT TIME ZONE ENCODE AZ64,
    PRIMARY KEY (agentid, toolid)
) DISTSTYLE ALL SORTKEY (agentid);

CREATE TABLE IF NOT EXISTS tool_error_summary (
    domainid VARCHAR(528) ENCODE ZSTD NOT NULL,
    agentid VARCHAR(528) ENCODE RAW NOT NULL,
    agentnm VARCHAR(1020) ENCODE ZSTD,
    total_errors BIGINT ENCODE AZ64 NOT NULL,
    total_executions BIGINT ENCODE AZ64 NOT NULL,
    error_rate DOUBLE PRECISION ENCODE RAW NOT NULL,
    failed_tools VARCHAR(65535) ENCODE ZSTD NOT NULL,
    PRIMARY KEY (agentid)
) DISTSTYLE ALL SORTKEY (agentid);

CREATE TABLE IF NOT EXISTS user_process_patterns (
    is_recommended BOOLEAN ENCODE RAW NOT NULL,
    userid VARCHAR(528) ENCODE RAW NOT NULL,
    category VARCHAR(1020) ENCODE ZSTD NOT NULL,
    agent_sequence VARCHAR(528) ENCODE ZSTD NOT NULL,
    process_pattern VARCHAR(65535) ENCODE ZSTD NOT NULL,
    tool_sequence VARCHAR(65535) ENCODE ZSTD NOT NULL,
    pattern_key VARCHAR(32) ENCODE RAW NOT NULL,
    execution_count BIGINT ENCODE AZ64 NOT NULL,
    success_count BIGINT ENCODE AZ64 NOT NULL,
    avg_execution_time DOUBLE PRECISION ENCODE RAW,
    pattern_score DOUBLE PRECISION ENCODE RAW NOT NULL,
    first_used_date DATE ENCODE AZ64,
    last_used_date DATE ENCODE AZ64,
    decay_date DATE ENCODE AZ64,
    PRIMARY KEY (userid, pattern_key)
) DISTKEY (userid) SORTKEY (userid, pattern_key);

CREATE TABLE IF NOT EXISTS user_tool_mapping_hist (
    userid VARCHAR(528) ENCODE ZSTD NOT NULL,
    sessionid VARCHAR(528) ENCODE RAW NOT NULL,
    processid VARCHAR(528) ENCODE RAW NOT NULL,
    agentid VARCHAR(528) ENCODE RAW NOT NULL,
    toolid VARCHAR(528) ENCODE RAW NOT NULL,
    attempt INTEGER ENCODE AZ64 NOT NULL,
    toolnm VARCHAR(1020) ENCODE ZSTD,
    toolvalues VARCHAR(65535) ENCODE ZSTD,
    transactdt VARCHAR(20) ENCODE ZSTD,
    succyn VARCHAR(1) ENCODE ZSTD,
    resultmsg VARCHAR(65535) ENCODE ZSTD,
    callno BIGINT ENCODE AZ64,
    status VARCHAR(16) ENCODE ZSTD,
    errortype VARCHAR(1020) ENCODE ZSTD,
    durationms DOUBLE PRECISION ENCODE RAW,
    inputtokens BIGINT ENCODE AZ64,
    outputtokens BIGINT ENCODE AZ64,
    load_timestamp TIMESTAMP WITHOUT TIME ZONE ENCODE AZ64,
    cachedtokens BIGINT ENCODE AZ64,
    cachewritetokens BIGINT ENCODE AZ64,
    reasoningtokens BIGINT ENCODE AZ64,
    modelnm VARCHAR(1020) ENCODE ZSTD,
    requestinputtokens BIGINT ENCODE AZ64,
    agentver VARCHAR(1020) ENCODE ZSTD,
    PRIMARY KEY (userid, sessionid, processid, agentid, toolid, attempt)
) DISTKEY (userid) SORTKEY (sessionid, processid, agentid, toolid);

CREATE TABLE IF NOT EXISTS userinfo (
    userid VARCHAR(528) ENCODE ZSTD NOT NULL,
    usernm VARCHAR(1020) ENCODE ZSTD,
    userprofile VARCHAR(16000) ENCODE ZSTD,
    lastlogindt VARCHAR(20) ENCODE RAW,
    creationdt VARCHAR(20) ENCODE ZSTD,
    load_timestamp TIMESTAMP WITHOUT TIME ZONE ENCODE AZ64,
    PRIMARY KEY (userid)
) DISTKEY (userid) SORTKEY (lastlogindt);

CREATE TABLE IF NOT EXISTS usersession (
    userid VARCHAR(528) ENCODE ZSTD NOT NULL,
    sessionid VARCHAR(528) ENCODE RAW NOT NULL,
    sessionnm VARCHAR(1020) ENCODE ZSTD,
    sessionsummary VARCHAR(16000) ENCODE ZSTD,
    sessionstartdt VARCHAR(20) ENCODE ZSTD,
    dtlfileloc VARCHAR(16000) ENCODE ZSTD,
    sessionenddt VARCHAR(20) ENCODE ZSTD,
    sessionsuccyn VARCHAR(1) ENCODE ZSTD,
    reviewedsuccyn VARCHAR(1) ENCODE ZSTD,
    category VARCHAR(1020) ENCODE ZSTD,
    userrequest VARCHAR(65535) ENCODE ZSTD,
    expiresat DOUBLE PRECISION ENCODE RAW,
    ttldays INTEGER ENCODE AZ64,
    load_timestamp TIMESTAMP WITHOUT TIME ZONE ENCODE AZ64,
    PRIMARY KEY (userid, sessionid)
) DISTKEY (userid) SORTKEY (sessionid);

CREATE TABLE IF NOT EXISTS usersessionprocess (
    userid VARCHAR(528) ENCODE ZSTD NOT NULL,
    sessionid VARCHAR(528) ENCODE RAW NOT NULL,
    processid VARCHAR(528) ENCODE RAW NOT NULL,
    userprompt VARCHAR(65535) ENCODE ZSTD,
    procnm VARCHAR(1020) ENCODE ZSTD,
    procdesc VARCHAR(16000) ENCODE ZSTD,
    procdt VARCHAR(20) ENCODE ZSTD,
    load_timestamp TIMESTAMP WITHOUT TIME ZONE ENCODE AZ64,
    PRIMARY KEY (userid, sessionid, processid)
) DISTKEY (userid) SORTKEY (sessionid, processid);

CREATE TABLE IF NOT EXISTS warehouse_lease (
    name VARCHAR(32) ENCODE ZSTD,
    token BIGINT ENCODE AZ64,
    ownerid VARCHAR(64) ENCODE ZSTD,
    holder VARCHAR(1020) ENCODE ZSTD,
    held_since TIMESTAMP WITHOUT TIME ZONE ENCODE AZ64,
    held_until TIMESTAMP WITHOUT TIME ZONE ENCODE AZ64
);

CREATE TABLE IF NOT EXISTS warehouse_version (
    version INTEGER ENCODE AZ64,
    changed_at TIMESTAMP WITHOUT TIME ZONE ENCODE AZ64
);

CREATE TABLE IF NOT EXISTS work_call (
    change INTEGER ENCODE AZ64 NOT NULL,
    agentid VARCHAR(528) ENCODE ZSTD NOT NULL,
    toolid VARCHAR(528) ENCODE ZSTD NOT NULL,
    toolnm VARCHAR(1020) ENCODE ZSTD NOT NULL,
    calls BIGINT ENCODE AZ64 NOT NULL,
    errors BIGINT ENCODE AZ64 NOT NULL,
    inputtokens BIGINT ENCODE AZ64 NOT NULL,
    outputtokens BIGINT ENCODE AZ64 NOT NULL,
    PRIMARY KEY (change, agentid, toolid, toolnm)
) DISTSTYLE EVEN;

CREATE TABLE IF NOT EXISTS work_change (
    "PK" VARCHAR(2048) ENCODE ZSTD NOT NULL,
    "SK" VARCHAR(1024) ENCODE ZSTD NOT NULL,
    "value" SUPER ENCODE ZSTD,
    kind VARCHAR(64) ENCODE ZSTD,
    present INTEGER ENCODE AZ64 NOT NULL,
    loaded_at TIMESTAMP WITHOUT TIME ZONE ENCODE AZ64,
    PRIMARY KEY ("PK", "SK")
) DISTSTYLE EVEN;

CREATE TABLE IF NOT EXISTS work_daily (
    agentid VARCHAR(528) ENCODE ZSTD NOT NULL,
    category VARCHAR(1020) ENCODE ZSTD NOT NULL,
    agentver VARCHAR(1020) ENCODE ZSTD NOT NULL,
    execution_date DATE ENCODE AZ64 NOT NULL,
    executions BIGINT ENCODE AZ64 NOT NULL,
    successes BIGINT ENCODE AZ64 NOT NULL,
    PRIMARY KEY (agentid, category, agentver, execution_date)
) DISTSTYLE ALL;

CREATE TABLE IF NOT EXISTS work_execution (
    userid VARCHAR(528) ENCODE ZSTD NOT NULL,
    sessionid VARCHAR(528) ENCODE ZSTD NOT NULL,
    agentid VARCHAR(528) ENCODE ZSTD NOT NULL,
    change INTEGER ENCODE AZ64 NOT NULL,
    category VARCHAR(1020) ENCODE ZSTD NOT NULL,
    agentver VARCHAR(1020) ENCODE ZSTD,
    success INTEGER ENCODE AZ64 NOT NULL,
    execution_date DATE ENCODE AZ64,
    pattern_key VARCHAR(32) ENCODE ZSTD NOT NULL,
    PRIMARY KEY (userid, sessionid, agentid, change)
) DISTKEY (userid);

CREATE TABLE IF NOT EXISTS work_pattern (
    userid VARCHAR(528) ENCODE ZSTD NOT NULL,
    category VARCHAR(1020) ENCODE ZSTD NOT NULL,
    agent_sequence VARCHAR(528) ENCODE ZSTD NOT NULL,
    process_pattern VARCHAR(65535) ENCODE ZSTD NOT NULL,
    tool_sequence VARCHAR(65535) ENCODE ZSTD NOT NULL,
    pattern_key VARCHAR(32) ENCODE ZSTD NOT NULL,
    execution_count BIGINT ENCODE AZ64 NOT NULL,
    success_count BIGINT ENCODE AZ64 NOT NULL,
    avg_execution_time DOUBLE PRECISION ENCODE RAW,
    pattern_score DOUBLE PRECISION ENCODE RAW NOT NULL,
    first_used_date DATE ENCODE AZ64,
    last_used_date DATE ENCODE AZ64,
    decay_date DATE ENCODE AZ64,
    PRIMARY KEY (userid, pattern_key)
) DISTKEY (userid);

CREATE TABLE IF NOT EXISTS work_session (
    userid VARCHAR(528) ENCODE ZSTD NOT NULL,
    sessionid VARCHAR(528) ENCODE RAW NOT NULL,
    PRIMARY KEY (userid, sessionid)
) DISTKEY (userid) SORTKEY (sessionid);

CREATE TABLE IF NOT EXISTS work_tool (
    agentid VARCHAR(528) ENCODE ZSTD NOT NULL,
    toolid VARCHAR(528) ENCODE ZSTD NOT NULL,
    toolnm VARCHAR(1020) ENCODE ZSTD NOT NULL,
    calls BIGINT ENCODE AZ64 NOT NULL,
    errors BIGINT ENCODE AZ64 NOT NULL,
    inputtokens BIGINT ENCODE AZ64 NOT NULL,
    outputtokens BIGINT ENCODE AZ64 NOT NULL,
    PRIMARY KEY (agentid, toolid, toolnm)
) DISTSTYLE ALL;

CREATE TABLE IF NOT EXISTS work_user (
    userid VARCHAR(528) ENCODE ZSTD NOT NULL,
    PRIMARY KEY (userid)
) DISTKEY (userid);

DROP TABLE IF EXISTS refresh_terms;

CREATE TABLE IF NOT EXISTS refresh_terms (
    as_of DATE ENCODE AZ64,
    half_life_days DOUBLE PRECISION ENCODE RAW,
    revision_prior DOUBLE PRECISION ENCODE RAW
);
