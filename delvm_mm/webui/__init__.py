"""The web page of ``delvm page``: what it shows (``page``), how it answers, and what keeps it safe (``guard``)."""
