"""Set-up text of each client, as its users paste it: pure functions of the gateway's address, a key
and the chosen models. The dashboard shows it, docs/clients.md has it, and tests run it."""
