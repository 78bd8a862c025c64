"""Training: settings, losses, windows as examples, and the trainer."""
