"""The web page of ``tools/webui.py``: what it shows (``page``), how it answers, and what keeps it safe (``guard``)."""
