"""The agents that come with the server: `echo`, `demo` (LangGraph without a language model) and `assistant` (with one).

They are written as a user would write an agent. Nothing here imports the server, and the server reaches them only
through the names in config.yaml.
"""
