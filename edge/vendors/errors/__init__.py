"""Error bodies of vendors: causes, waits, members at fault."""
