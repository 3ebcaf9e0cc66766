"""One self-contained HTML file with text, tables, verdicts and pictures; it needs no network."""
