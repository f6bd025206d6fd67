"""What is configured outside the code: mail, settings, and the stores."""
