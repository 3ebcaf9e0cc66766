"""The processes that host engines: what starts, feeds, watches and replaces them, and what runs inside."""
