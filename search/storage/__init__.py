"""The only writers of studies: SQLite in Optuna's schema, its lock, its backup, and what reads it back."""
