-- A refresh is one transaction: if anything fails, nothing has changed.

BEGIN;
