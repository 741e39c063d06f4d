"""The native runs API: LangGraph's at the root, and DeerFlow's dialect of it under `/api`. One set of handlers."""
