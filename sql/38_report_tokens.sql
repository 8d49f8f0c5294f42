-- List tokens per agent and tool.

SELECT agent_tool.agentid, agent_tool.toolid, CASE
    WHEN (agent_tool.toolnm = '') THEN agent_tool.toolid ELSE agent_tool.toolnm END AS tool_name,
    agent_tool.calls, agent_tool.inputtokens, agent_tool.outputtokens
FROM agent_tool ORDER BY agent_tool.inputtokens + agent_tool.outputtokens DESC, agent_tool.agentid,
    agent_tool.toolid, agent_tool.toolnm;
