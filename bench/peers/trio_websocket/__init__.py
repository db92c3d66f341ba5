"""The bridge on plain trio-websocket: a memory channel and `send_message` per client, one shared Redis connection."""
