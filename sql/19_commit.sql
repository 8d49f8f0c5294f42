-- Commit the refresh.

COMMIT;
