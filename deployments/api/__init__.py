"""The REST API: campaigns, their runs and their money over HTTP, by the same code as the commands."""
