-- Begin the refresh, which is one transaction: if a statement fails, run ROLLBACK, and nothing has changed.

BEGIN;

-- Wait until no other refresh runs: two at once would count twice.
LOCK TABLE work_change;
