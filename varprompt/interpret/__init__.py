"""What was learned, seen through words: those nearest to a context, and the texts it makes."""
