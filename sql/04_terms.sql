-- Set the parameters of the refresh: change the day to score for, and the half-life of evidence in days.

DELETE FROM refresh_terms;

INSERT INTO refresh_terms (as_of, half_life_days) SELECT CAST('2025-06-14' AS DATE) AS as_of,
    CAST(30 AS DOUBLE PRECISION) AS half_life_days;
