"""opsd's page in headless Chromium, served by a real opsd that looks at real daemons."""
