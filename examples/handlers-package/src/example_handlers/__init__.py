"""Task types of one's own for gemflow, as a package."""
