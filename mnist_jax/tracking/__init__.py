"""Runs of anybody's own loop, and trackers as replicas of their record."""
