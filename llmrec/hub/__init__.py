"""The saved folder, which is also the Hub repository."""
