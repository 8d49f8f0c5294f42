"""The data of `agentmodel demo`: a small world of store search, and a simulation of agents that work in it."""
