"""How a campaign gets onto a Prefect server, and who drives it."""
