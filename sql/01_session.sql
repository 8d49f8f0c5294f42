-- Keep capitals in names; zero-ETL needs it.

SET enable_case_sensitive_identifier TO TRUE;
