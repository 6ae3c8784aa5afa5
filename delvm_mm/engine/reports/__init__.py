"""What a run says of itself: lines, curves, a page."""
