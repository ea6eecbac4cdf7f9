"""Measures of generated clips. Each says what it compares and in which unit."""
