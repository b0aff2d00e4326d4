"""Tests that need neither root nor services."""
