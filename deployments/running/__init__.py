"""What runs for long: the embedded server, the campaign worker, and the logs of both."""
