"""Run the embedded engines: a real Valkey, moto's DynamoDB server and a DuckDB file, started and stopped together.

Without a folder they keep nothing. With a folder they are the stack that `agentmodel up` runs and `find_stack` finds:

    .agentmodel/
    ├── lock               locked while the stack runs; holds its process id
    ├── stack.json         the addresses of the engines; exists only while the stack runs
    ├── ports.json         the ports of the engines, for the next start
    ├── tables/            the tables of the DynamoDB server when they were last saved, as lines of a DynamoDB export
    │   └── changes.jsonl  what was changed since, written through before it is acknowledged
    ├── valkey/            Valkey's append-only file, flushed to disk before each answer
    ├── warehouse.duckdb   opened by whoever changes it, for that time: only one process can open it
    └── warehouse.read.duckdb   a copy of it, renewed after each change, which any number of processes read
"""

from agentmodel.embedded._backup import back_up as back_up
from agentmodel.embedded._backup import restore as restore
from agentmodel.embedded._dynamodb import DynamoServer
from agentmodel.embedded._engines import Engines
from agentmodel.embedded._folder import find_stack as find_stack
from agentmodel.embedded._folder import running_stack as running_stack
from agentmodel.embedded._valkey import ValkeyServer

__all__ = ["DynamoServer", "Engines", "ValkeyServer"]
