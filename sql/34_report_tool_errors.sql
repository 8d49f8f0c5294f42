-- List tool errors per agent, as the sample reports them.

SELECT tool_error_summary.agentid, tool_error_summary.agentnm, tool_error_summary.total_errors,
    tool_error_summary.total_executions, tool_error_summary.error_rate, tool_error_summary.failed_tools
FROM tool_error_summary ORDER BY tool_error_summary.total_errors DESC, tool_error_summary.error_rate DESC,
    tool_error_summary.agentid;
