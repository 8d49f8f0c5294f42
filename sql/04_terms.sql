-- What the refresh is told: write the day to score for here; a scheduled query may write CURRENT_DATE.

DELETE FROM refresh_terms;

INSERT INTO refresh_terms (as_of, half_life_days) SELECT CAST('2025-06-14' AS DATE) AS "'2025-06-14'",
    CAST(30 AS DOUBLE PRECISION) AS "30";
