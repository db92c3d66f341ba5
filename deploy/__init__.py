"""What runs the daemons elsewhere than in a test: the demo, and the files for containers, systemd and monitoring."""
