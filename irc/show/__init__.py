"""What the command proves, draws and lists."""
