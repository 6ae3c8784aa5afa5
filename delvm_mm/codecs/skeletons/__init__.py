"""Keypoints of people as drawings, and back."""
