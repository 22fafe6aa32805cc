"""How the command line writes: plain text, tables, JSON, progress. Nothing here knows the daemon."""
