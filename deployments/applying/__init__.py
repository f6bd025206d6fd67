"""From campaign files to a Prefect server and the store: what would change, and changing it."""
