"""Reading tasks from files, for the command line: formats, their lines, and what is wrong with them."""
