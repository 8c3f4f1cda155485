"""The command that puts a finished run behind HTTP: options here, the server in `serving`."""
