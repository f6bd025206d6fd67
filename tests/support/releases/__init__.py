"""What earlier releases have left, for this one to go on with, and the script by which it is made."""
