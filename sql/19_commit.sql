-- Now it counts.

COMMIT;
