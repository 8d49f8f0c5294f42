-- List tool errors per agent, as the sample reports them.

SELECT tool_error_summary.agentid AS agent_id, tool_error_summary.agentnm AS agent_name,
    tool_error_summary.total_errors AS errors, tool_error_summary.total_executions AS executions,
    tool_error_summary.error_rate, tool_error_summary.failed_tools
FROM tool_error_summary ORDER BY tool_error_summary.total_errors DESC, tool_error_summary.error_rate DESC,
    tool_error_summary.agentid;
