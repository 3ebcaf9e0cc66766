"""Read and write studies: SQLite in Optuna's schema, its lock and its backup. Only this package writes them."""
