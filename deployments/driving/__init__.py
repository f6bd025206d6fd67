"""What people do to campaigns and runs, whichever way they say it: by command, or through the REST API."""
