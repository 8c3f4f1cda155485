"""A finished run at work: predictions, exports, engines and their speed."""
