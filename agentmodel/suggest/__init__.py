"""What goes back: scores, plans, warnings, questions to people, and what that saves."""
