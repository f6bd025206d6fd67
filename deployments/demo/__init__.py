"""Engines and a mail server to try campaigns with, on this machine alone."""
