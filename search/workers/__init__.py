"""Worker processes that host engines: the pool that starts, feeds, watches and replaces them, and the worker itself."""
