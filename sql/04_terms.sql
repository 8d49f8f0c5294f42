-- Set the parameters of the refresh: the day to score for, the half-life of evidence in days, and how many executions earlier revisions of an agent count as at most.

DELETE FROM refresh_terms;

INSERT INTO refresh_terms (as_of, half_life_days, revision_prior) SELECT CAST('2025-06-14' AS DATE) AS as_of,
    CAST(30 AS DOUBLE PRECISION) AS half_life_days, CAST(10 AS DOUBLE PRECISION) AS revision_prior;
