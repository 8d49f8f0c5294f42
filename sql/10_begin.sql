-- A refresh is one transaction: if anything fails, run ROLLBACK, and nothing has changed.

BEGIN;
