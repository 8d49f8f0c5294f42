-- List tokens per agent and tool.

SELECT agent_tool.agentid AS agent_id, agent_tool.toolid AS tool_id, named.tool_name,
    CAST(least(greatest(sum(CAST(agent_tool.calls AS BIGINT)), -4000000000000000000),
    4000000000000000000) AS BIGINT) AS calls,
    CAST(least(greatest(sum(CAST(agent_tool.inputtokens AS BIGINT)), -4000000000000000000),
    4000000000000000000) AS BIGINT) AS input_tokens,
    CAST(least(greatest(sum(CAST(agent_tool.outputtokens AS BIGINT)), -4000000000000000000),
    4000000000000000000) AS BIGINT) AS output_tokens
FROM agent_tool JOIN (SELECT agent_tool.agentid AS agentid, agent_tool.toolid AS toolid,
    coalesce(nullif(max(tool.toolnm), ''), nullif(max(agent_tool.toolnm), ''), agent_tool.toolid) AS tool_name
FROM agent_tool LEFT OUTER JOIN tool ON tool.agentid = agent_tool.agentid
    AND tool.toolid = agent_tool.toolid GROUP BY agent_tool.agentid,
    agent_tool.toolid) AS named ON named.agentid = agent_tool.agentid
    AND named.toolid = agent_tool.toolid GROUP BY agent_tool.agentid, agent_tool.toolid,
    named.tool_name ORDER BY CAST(least(greatest(sum(CAST(agent_tool.inputtokens AS BIGINT)),
    -4000000000000000000),
    4000000000000000000) AS BIGINT) + CAST(least(greatest(sum(CAST(agent_tool.outputtokens AS BIGINT)),
    -4000000000000000000), 4000000000000000000) AS BIGINT) DESC, agent_tool.agentid, agent_tool.toolid;
