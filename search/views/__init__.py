"""What people and programs see of a study: progress, tables, files, the dashboard. Nothing here decides anything."""
