"""One shared encoder with a head per task, its experts, and its frozen first layers."""
