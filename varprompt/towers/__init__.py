"""Where CLIPs come from, and their frozen towers."""
