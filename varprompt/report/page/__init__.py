"""The report as one web page that needs neither a network nor a server."""
