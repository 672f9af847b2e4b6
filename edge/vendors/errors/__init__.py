"""Error bodies of vendors: cause, wait, member at fault."""
