-- Every table, where it is missing.

CREATE TABLE IF NOT EXISTS agent (
    domainid VARCHAR(528),
    agentid VARCHAR(528) NOT NULL,
    agentnm VARCHAR(1020),
    score DOUBLE PRECISION,
    description VARCHAR(16000),
    load_timestamp TIMESTAMP WITHOUT TIME ZONE,
    PRIMARY KEY (agentid)
) DISTSTYLE ALL;

CREATE TABLE IF NOT EXISTS agent_daily (
    agentid VARCHAR(528) NOT NULL,
    execution_date DATE NOT NULL,
    executions BIGINT NOT NULL,
    successes BIGINT NOT NULL,
    PRIMARY KEY (agentid, execution_date)
) DISTSTYLE ALL SORTKEY (agentid, execution_date);

CREATE TABLE IF NOT EXISTS agent_execution (
    userid VARCHAR(528) NOT NULL,
    sessionid VARCHAR(528) NOT NULL,
    agentid VARCHAR(528) NOT NULL,
    category VARCHAR(1020) NOT NULL,
    success INTEGER NOT NULL,
    calls INTEGER NOT NULL,
    first_date DATE,
    execution_date DATE,
    seconds DOUBLE PRECISION,
    process_pattern VARCHAR(65535) NOT NULL,
    tool_sequence VARCHAR(65535) NOT NULL,
    pattern_key VARCHAR(32) NOT NULL,
    PRIMARY KEY (userid, sessionid, agentid)
) DISTKEY (userid) SORTKEY (sessionid, agentid);

CREATE TABLE IF NOT EXISTS agent_score_summary (
    domainid VARCHAR(528) NOT NULL,
    agentid VARCHAR(528) NOT NULL,
    agentnm VARCHAR(1020),
    total_executions BIGINT NOT NULL,
    success_count BIGINT NOT NULL,
    failure_count BIGINT NOT NULL,
    success_rate DOUBLE PRECISION NOT NULL,
    last_execution_date DATE,
    decay_date DATE,
    days_since_last_exec INTEGER,
    time_decay_factor DOUBLE PRECISION NOT NULL,
    calculated_score DOUBLE PRECISION NOT NULL,
    score_weight DOUBLE PRECISION NOT NULL,
    evidence_score DOUBLE PRECISION NOT NULL,
    evidence_low DOUBLE PRECISION NOT NULL,
    evidence_high DOUBLE PRECISION NOT NULL,
    updated_at TIMESTAMP WITHOUT TIME ZONE NOT NULL,
    PRIMARY KEY (domainid, agentid)
) DISTSTYLE ALL SORTKEY (domainid, agentid);

CREATE TABLE IF NOT EXISTS agent_tool (
    agentid VARCHAR(528) NOT NULL,
    toolid VARCHAR(528) NOT NULL,
    toolnm VARCHAR(1020) NOT NULL,
    calls BIGINT NOT NULL,
    errors BIGINT NOT NULL,
    inputtokens BIGINT NOT NULL,
    outputtokens BIGINT NOT NULL,
    PRIMARY KEY (agentid, toolid, toolnm)
) DISTSTYLE ALL SORTKEY (agentid, toolid);

CREATE TABLE IF NOT EXISTS domain (
    domainid VARCHAR(528) NOT NULL,
    domainnm VARCHAR(1020),
    description VARCHAR(16000),
    load_timestamp TIMESTAMP WITHOUT TIME ZONE,
    PRIMARY KEY (domainid)
) DISTSTYLE ALL;

CREATE TABLE IF NOT EXISTS refresh_watermark (
    name VARCHAR(32) NOT NULL,
    seen_until TIMESTAMP WITHOUT TIME ZONE,
    as_of DATE NOT NULL,
    PRIMARY KEY (name)
) DISTSTYLE ALL;

CREATE TABLE IF NOT EXISTS tool (
    domainid VARCHAR(528),
    agentid VARCHAR(528) NOT NULL,
    toolid VARCHAR(528) NOT NULL,
    toolnm VARCHAR(1020),
    toolspec VARCHAR(65535),
    description VARCHAR(16000),
    load_timestamp TIMESTAMP WITHOUT TIME ZONE,
    PRIMARY KEY (agentid, toolid)
) DISTSTYLE ALL SORTKEY (agentid);

CREATE TABLE IF NOT EXISTS tool_error_summary (
    domainid VARCHAR(528) NOT NULL,
    agentid VARCHAR(528) NOT NULL,
    agentnm VARCHAR(1020),
    total_errors BIGINT NOT NULL,
    total_executions BIGINT NOT NULL,
    error_rate DOUBLE PRECISION NOT NULL,
    failed_tools VARCHAR(65535) NOT NULL,
    PRIMARY KEY (agentid)
) DISTSTYLE ALL SORTKEY (agentid);

CREATE TABLE IF NOT EXISTS user_process_patterns (
    is_recommended BOOLEAN NOT NULL,
    userid VARCHAR(528) NOT NULL,
    category VARCHAR(1020) NOT NULL,
    agent_sequence VARCHAR(528) NOT NULL,
    process_pattern VARCHAR(65535) NOT NULL,
    tool_sequence VARCHAR(65535) NOT NULL,
    pattern_key VARCHAR(32) NOT NULL,
    execution_count BIGINT NOT NULL,
    success_count BIGINT NOT NULL,
    avg_execution_time DOUBLE PRECISION,
    pattern_score DOUBLE PRECISION NOT NULL,
    first_used_date DATE,
    last_used_date DATE,
    decay_date DATE,
    PRIMARY KEY (userid, pattern_key)
) DISTKEY (userid) SORTKEY (userid, pattern_key);

CREATE TABLE IF NOT EXISTS user_tool_mapping_hist (
    userid VARCHAR(528) NOT NULL,
    sessionid VARCHAR(528) NOT NULL,
    processid VARCHAR(528) NOT NULL,
    agentid VARCHAR(528) NOT NULL,
    toolid VARCHAR(528) NOT NULL,
    attempt INTEGER NOT NULL,
    toolnm VARCHAR(1020),
    toolvalues VARCHAR(65535),
    transactdt VARCHAR(20),
    succyn VARCHAR(1),
    resultmsg VARCHAR(65535),
    callno BIGINT,
    status VARCHAR(16),
    errortype VARCHAR(1020),
    durationms DOUBLE PRECISION,
    inputtokens BIGINT,
    outputtokens BIGINT,
    load_timestamp TIMESTAMP WITHOUT TIME ZONE,
    PRIMARY KEY (userid, sessionid, processid, agentid, toolid, attempt)
) DISTKEY (userid) SORTKEY (sessionid, processid, agentid, toolid);

CREATE TABLE IF NOT EXISTS userinfo (
    userid VARCHAR(528) NOT NULL,
    usernm VARCHAR(1020),
    userprofile VARCHAR(16000),
    lastlogindt VARCHAR(20),
    creationdt VARCHAR(20),
    load_timestamp TIMESTAMP WITHOUT TIME ZONE,
    PRIMARY KEY (userid)
) DISTKEY (userid) SORTKEY (lastlogindt);

CREATE TABLE IF NOT EXISTS usersession (
    userid VARCHAR(528) NOT NULL,
    sessionid VARCHAR(528) NOT NULL,
    sessionnm VARCHAR(1020),
    sessionsummary VARCHAR(16000),
    sessionstartdt VARCHAR(20),
    dtlfileloc VARCHAR(16000),
    sessionenddt VARCHAR(20),
    sessionsuccyn VARCHAR(1),
    reviewedsuccyn VARCHAR(1),
    category VARCHAR(1020),
    userrequest VARCHAR(65535),
    load_timestamp TIMESTAMP WITHOUT TIME ZONE,
    PRIMARY KEY (userid, sessionid)
) DISTKEY (userid) SORTKEY (sessionid);

CREATE TABLE IF NOT EXISTS usersessionprocess (
    userid VARCHAR(528) NOT NULL,
    sessionid VARCHAR(528) NOT NULL,
    processid VARCHAR(528) NOT NULL,
    userprompt VARCHAR(65535),
    procnm VARCHAR(1020),
    procdesc VARCHAR(16000),
    procdt VARCHAR(20),
    load_timestamp TIMESTAMP WITHOUT TIME ZONE,
    PRIMARY KEY (userid, sessionid, processid)
) DISTKEY (userid) SORTKEY (sessionid, processid);

CREATE TABLE IF NOT EXISTS work_call (
    change INTEGER NOT NULL,
    agentid VARCHAR(528) NOT NULL,
    toolid VARCHAR(528) NOT NULL,
    toolnm VARCHAR(1020) NOT NULL,
    calls BIGINT NOT NULL,
    errors BIGINT NOT NULL,
    inputtokens BIGINT NOT NULL,
    outputtokens BIGINT NOT NULL,
    PRIMARY KEY (change, agentid, toolid, toolnm)
) DISTSTYLE EVEN;

CREATE TABLE IF NOT EXISTS work_change (
    "PK" VARCHAR(2048) NOT NULL,
    "SK" VARCHAR(1024) NOT NULL,
    "value" SUPER,
    kind VARCHAR(64),
    present INTEGER NOT NULL,
    loaded_at TIMESTAMP WITHOUT TIME ZONE,
    PRIMARY KEY ("PK", "SK")
) DISTSTYLE EVEN;

CREATE TABLE IF NOT EXISTS work_daily (
    agentid VARCHAR(528) NOT NULL,
    execution_date DATE NOT NULL,
    executions BIGINT NOT NULL,
    successes BIGINT NOT NULL,
    PRIMARY KEY (agentid, execution_date)
) DISTSTYLE ALL;

CREATE TABLE IF NOT EXISTS work_execution (
    userid VARCHAR(528) NOT NULL,
    sessionid VARCHAR(528) NOT NULL,
    agentid VARCHAR(528) NOT NULL,
    change INTEGER NOT NULL,
    success INTEGER NOT NULL,
    execution_date DATE,
    pattern_key VARCHAR(32) NOT NULL,
    PRIMARY KEY (userid, sessionid, agentid, change)
) DISTKEY (userid);

CREATE TABLE IF NOT EXISTS work_pattern (
    userid VARCHAR(528) NOT NULL,
    category VARCHAR(1020) NOT NULL,
    agent_sequence VARCHAR(528) NOT NULL,
    process_pattern VARCHAR(65535) NOT NULL,
    tool_sequence VARCHAR(65535) NOT NULL,
    pattern_key VARCHAR(32) NOT NULL,
    execution_count BIGINT NOT NULL,
    success_count BIGINT NOT NULL,
    avg_execution_time DOUBLE PRECISION,
    pattern_score DOUBLE PRECISION NOT NULL,
    first_used_date DATE,
    last_used_date DATE,
    decay_date DATE,
    PRIMARY KEY (userid, pattern_key)
) DISTKEY (userid);

CREATE TABLE IF NOT EXISTS work_session (
    userid VARCHAR(528) NOT NULL,
    sessionid VARCHAR(528) NOT NULL,
    PRIMARY KEY (userid, sessionid)
) DISTKEY (userid) SORTKEY (sessionid);

CREATE TABLE IF NOT EXISTS work_tool (
    agentid VARCHAR(528) NOT NULL,
    toolid VARCHAR(528) NOT NULL,
    toolnm VARCHAR(1020) NOT NULL,
    calls BIGINT NOT NULL,
    errors BIGINT NOT NULL,
    inputtokens BIGINT NOT NULL,
    outputtokens BIGINT NOT NULL,
    PRIMARY KEY (agentid, toolid, toolnm)
) DISTSTYLE ALL;

CREATE TABLE IF NOT EXISTS work_user (
    userid VARCHAR(528) NOT NULL,
    PRIMARY KEY (userid)
) DISTKEY (userid);

CREATE TABLE IF NOT EXISTS refresh_terms (
    as_of DATE,
    half_life_days DOUBLE PRECISION
);
