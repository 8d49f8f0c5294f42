"""What the recorders of all frameworks share."""
