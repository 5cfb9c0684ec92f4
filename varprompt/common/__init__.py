"""What everything else may use: checks, files, characters, the console, the processes of a run."""
