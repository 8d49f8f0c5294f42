"""Where requests come from: one module for each agent framework, each behind its extra."""
