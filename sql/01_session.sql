-- Names written in capitals stay so; zero-ETL needs it.

SET enable_case_sensitive_identifier TO TRUE;
