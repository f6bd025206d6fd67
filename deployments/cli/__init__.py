"""The command ``campaigns``: its commands, and how they show what they show."""
