"""Images: reading, loaders, features and their cache."""
