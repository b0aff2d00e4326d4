"""Revisions. A released one never changes."""
