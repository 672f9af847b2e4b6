"""What operators do with keys, plans and money, for the command line and over HTTP."""
