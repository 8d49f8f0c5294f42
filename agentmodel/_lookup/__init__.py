"""What people look up, in the command line and in the console: users, sessions, decisions, and what went wrong."""
